"""`python -m web_demo`: the web demo as a process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from cir.async_client import AsyncClient
from cir.channel import TlsFiles
from service_runtime.errors import StartupError
from service_runtime.http_server import Busy, run_http
from web_demo.app import Pages, delete_expired_uploads
from web_demo.backend import SearchBackend
from web_demo.benchmark_queries import BenchmarkQueries
from web_demo.delivery import PathPrefix
from web_demo.media import Thumbnails, Uploads
from web_demo.settings import DemoSettings
from web_demo.state import MAX_PARAMETERS
from web_demo.web_images import WebImages

_DELETE_SECONDS = 60.0
# A page is made on the event loop, and each searches with the key of all: one client has few at a time.
_REQUESTS_OF_A_CLIENT = 16
_BUSY = PlainTextResponse("busy; try again", 503, {"Retry-After": "1", "Connection": "close"})


def main(arguments: list[str]) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""
    return run_http(DemoSettings, _open, arguments)


@asynccontextmanager
async def _open(settings: DemoSettings) -> AsyncIterator[tuple[ASGIApp, Mapping[str, str]]]:
    benchmark = BenchmarkQueries.read(settings.known_queries)
    try:
        uploads = Uploads(
            settings.data / "uploads",
            max_pixels=settings.max_upload_pixels,
            max_files=settings.max_uploads,
            max_total_bytes=settings.max_uploads_bytes,
            lifetime_seconds=settings.upload_minutes * 60,
            max_bytes=settings.max_upload_bytes,
            budget=settings.decode_budget,
        )
        thumbnails = Thumbnails(
            settings.data / "thumbnails",
            settings.picture_roots,
            max_bytes=settings.max_upload_bytes,
            max_pixels=settings.max_upload_pixels,
            max_files=settings.max_thumbnails,
            web_seconds=settings.web_thumbnail_hours * 3600,
            budget=settings.decode_budget,
        )
        tls = (
            TlsFiles(settings.search_ca, settings.search_certificate, settings.search_key)
            if settings.search_ca
            else None
        )
        client = AsyncClient(
            settings.search,
            timeout=settings.search_timeout_seconds,
            api_key=settings.search_api_key.get_secret_value(),
            tls=tls,
        )
    except OSError as error:
        raise StartupError(f"{error.filename or settings.data}: {error.strerror or error}") from error
    async with client:
        backend = SearchBackend(
            client, uploads, benchmark, page_size=settings.page_size, first_catalog=settings.catalog
        )
        web_images = WebImages(
            settings.fetching, max_bytes=settings.max_upload_bytes, at_once=settings.fetches
        )
        application = Pages(settings, backend, uploads, thumbnails, web_images).application()
        deleting = asyncio.create_task(delete_expired_uploads(uploads, _DELETE_SECONDS))
        try:
            served = PathPrefix(application, settings.root_path)
            busy = Busy(
                served,
                settings.max_requests,
                _BUSY,
                each=_REQUESTS_OF_A_CLIENT,
                prefix=settings.root_path,
                parameters=MAX_PARAMETERS,
            )
            yield busy, {"search": settings.search}
        finally:
            deleting.cancel()
            with suppress(asyncio.CancelledError):
                await deleting
            uploads.close()
            thumbnails.close()
            web_images.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
