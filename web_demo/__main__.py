"""`python -m web_demo`: the web demo as a process."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from cir.address import Address
from cir.async_client import AsyncClient
from cir.channel import TlsFiles
from service_runtime.errors import StartupError
from service_runtime.http_server import serve_http
from service_runtime.listen import bound_listener, open_sockets, remove_socket
from service_runtime.logging import capture_libraries, configure_logging, get_logger, log_loop_error
from web_demo.app import Pages, delete_expired_uploads
from web_demo.backend import SearchBackend
from web_demo.benchmark_queries import BenchmarkQueries
from web_demo.delivery import PathPrefix
from web_demo.media import Thumbnails, Uploads
from web_demo.settings import DemoSettings
from web_demo.web_images import WebImages

_DELETE_SECONDS = 60.0


def main(arguments: list[str]) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""
    try:
        settings = DemoSettings.load(arguments)
        configure_logging(settings.log_level, settings.log_format)
        capture_libraries(settings.log_level)
        return asyncio.run(_serve(settings))
    except StartupError as error:
        print(f"web_demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def _serve(settings: DemoSettings) -> int:
    asyncio.get_running_loop().set_exception_handler(log_loop_error)
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
        listener = settings.listener
        sockets = open_sockets(listener)
        backend = SearchBackend(client, uploads, benchmark, page_size=settings.page_size)
        web_images = WebImages(
            settings.fetching, max_bytes=settings.max_upload_bytes, at_once=settings.fetches
        )
        application = Pages(settings, backend, uploads, thumbnails, web_images).application()
        bound = bound_listener(listener, sockets)
        address = bound.url if isinstance(bound, Address) else str(bound)
        get_logger().info("serving", address=address, search=settings.search)
        deleting = asyncio.create_task(delete_expired_uploads(uploads, _DELETE_SECONDS))
        try:
            started = await serve_http(
                PathPrefix(application, settings.root_path),
                sockets,
                max_requests=settings.max_requests,
                max_connections=settings.max_connections,
                head_seconds=settings.request_head_seconds,
                grace_seconds=settings.shutdown_grace_seconds,
                proxies=settings.proxies,
            )
        finally:
            remove_socket(listener)
            deleting.cancel()
            with suppress(asyncio.CancelledError):
                await deleting
            uploads.close()
            thumbnails.close()
            web_images.close()
    return 0 if started else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
