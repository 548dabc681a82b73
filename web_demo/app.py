"""The routes, and the headers of their answers.

Each route reads the address, asks the backend, and fills a template."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from urllib.parse import parse_qsl

import grpc
from jinja2 import Environment, FileSystemLoader
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from cir.errors import CirError
from service_runtime.logging import get_logger
from service_runtime.rate_limit import TokenBuckets, host_name
from web_demo.backend import NoCatalogError, SearchBackend, UploadGoneError
from web_demo.i18n import choose_texts
from web_demo.media import BadImageError, Format, Thumbnails, Uploads
from web_demo.settings import DemoSettings
from web_demo.state import BadStateError, State, parse
from web_demo.view import build_page, build_results, item_title

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "img-src 'self' blob:",
        "style-src 'self'",
        "script-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


async def add_headers(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
    """Allow our own files only: no guessed types, no framing, no address sent to other sites."""
    response = await call(request)
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["Permissions-Policy"] = "geolocation=(), microphone=(), camera=(self)"
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def is_same_origin(request: Request, origins: Collection[str] = ()) -> bool:
    """Return False when a browser sent this from another site; other clients send neither header.

    `origins` are those of this site beyond its Host, which a proxy in front may have changed.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    if origin is None or origin.lower() in origins:
        return True
    return origin.partition("://")[2] == request.headers.get("host", "")


_HERE = Path(__file__).parent
_TEMPLATES = Jinja2Templates(
    env=Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True, auto_reload=False)
)
_FORM_BYTES = 64 * 1024  # of a form without its image
_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: (400, "bad_request"),
    grpc.StatusCode.NOT_FOUND: (404, "not_here"),
    grpc.StatusCode.FAILED_PRECONDITION: (409, "model_mismatch"),
}


class Pages:
    """The routes, over one backend."""

    def __init__(
        self, settings: DemoSettings, backend: SearchBackend, uploads: Uploads, thumbnails: Thumbnails
    ) -> None:
        self._settings = settings
        self._backend = backend
        self._uploads = uploads
        self._thumbnails = thumbnails
        self._buckets = TokenBuckets(
            settings.uploads_per_minute / 60, max(1, round(settings.uploads_per_minute))
        )
        self._receiving = 0
        self._decoding = asyncio.Semaphore(settings.decoders)

    def application(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/", self.index),
                Route("/more", self.more),
                Route("/item", self.item),
                Route("/picture", self.image),
                Route("/upload", self.upload, methods=["POST"]),
                Route("/uploaded", self.uploaded),
                Route("/about", self.about),
                Route("/healthz", self.health),
                Mount("/static", StaticFiles(directory=_HERE / "static")),
            ],
            middleware=[Middleware(BaseHTTPMiddleware, dispatch=add_headers)],
            exception_handlers={
                CirError: self._search_failed,
                BadStateError: self._bad_state,
                NoCatalogError: self._no_catalog,
                UploadGoneError: self._upload_gone,
                HTTPException: self._http_error,
            },
        )

    async def index(self, request: Request) -> Response:
        """Serve the start page or results. A text that was just typed gets its place in the address first."""
        state = _read_state(request)
        if "x" in request.query_params:
            return RedirectResponse(state.url, 303)
        page = build_page(await self._backend.load(state))
        template = "results.html" if page.state.turns else "explore.html"
        return self._render(request, template, {"page": page})

    async def more(self, request: Request) -> Response:
        """Serve the next results, as a piece of a page."""
        state = _read_state(request)
        combiner = request.query_params.get("by", "")
        token = request.query_params.get("token", "")
        results = build_results(
            state, combiner, await self._backend.search(state, combiner, page_token=token)
        )
        context: dict[str, object] = {
            "cards": results.cards,
            "next_page_token": results.answer.next_page_token,
            "state": state,
        }
        return self._render(request, "cards.html", context)

    async def item(self, request: Request) -> Response:
        """Serve an item's payload."""
        state = _read_state(request)
        item = await self._backend.item(state.catalog, request.query_params.get("i", ""))
        context = {"item": item, "title": item_title(item.id, item.payload), "state": state}
        return self._render(request, "item.html", context)

    async def image(self, request: Request) -> Response:
        """Serve an item's thumbnail."""
        query = request.query_params
        catalog = query.get("c", "")
        image = await self._backend.image_location(catalog, query.get("i", ""))
        folders = (await self._backend.context(catalog)).version.image_folders
        format: Format = "webp" if "image/webp" in request.headers.get("accept", "") else "jpeg"
        content = await run_in_threadpool(self._thumbnails.kept, image, folders, format)
        if content is None:
            async with self._decoding:
                content = await run_in_threadpool(self._thumbnails.make, image, folders, format)
        if content is None:
            raise HTTPException(404)
        headers = {"Cache-Control": "private, max-age=3600", "Vary": "Accept"}
        return Response(content, media_type=f"image/{format}", headers=headers)

    async def upload(self, request: Request) -> Response:
        """Store an image and start a conversation from it."""
        if not is_same_origin(request, self._settings.origins):
            return self._problem(request, 403, "other_site")
        if self._buckets.take(host_name(request.client.host if request.client else "")):
            return self._problem(request, 429, "too_many_uploads")
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > self._settings.max_upload_bytes + _FORM_BYTES:
            return self._problem(request, 413, "too_many_bytes")
        if self._receiving >= self._settings.uploads_at_once:
            return self._problem(request, 503, "too_many_uploads")
        self._receiving += 1
        try:
            content, query = await asyncio.wait_for(self._received(request), self._settings.upload_seconds)
            if len(content) > self._settings.max_upload_bytes:
                return self._problem(request, 413, "too_many_bytes")
            async with self._decoding:
                name = await run_in_threadpool(self._uploads.store, content)
        except BadImageError as error:
            return self._problem(request, 400, error.reason)
        except (MultiPartException, HTTPException, ClientDisconnect):
            return self._problem(request, 400, "no_file")
        except TimeoutError:
            return self._problem(request, 408, "no_file")
        except OSError as error:
            get_logger().warning("upload not kept", error=error.strerror or type(error).__name__)
            return self._problem(request, 507, "upload_not_kept")
        finally:
            self._receiving -= 1
        state = parse(parse_qsl(query.removeprefix("?")))
        return RedirectResponse(state.start_from(upload=name).url, 303)

    async def _received(self, request: Request) -> tuple[bytes, str]:
        """Return the image and the state of an upload's form.

        Raises:
            HTTPException: the form holds no image, or is none.
        """
        async with request.form(max_files=1, max_fields=4, max_part_size=_FORM_BYTES) as form:
            file, query = form.get("picture"), form.get("state", "")
            if not isinstance(file, UploadFile) or not file.size:
                raise HTTPException(400)
            return await file.read(), query if isinstance(query, str) else ""

    async def uploaded(self, request: Request) -> Response:
        """Serve an upload, as it was re-encoded."""
        try:
            content = await run_in_threadpool(self._uploads.read, request.query_params.get("n", ""))
        except ValueError:
            content = None
        if content is None:
            raise HTTPException(404)
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    async def about(self, request: Request) -> Response:
        """Serve facts about the catalog and the model."""
        state = _read_state(request)
        catalogs = await self._backend.catalogs()
        catalog = state.catalog or next(iter(catalogs), "")
        context = await self._backend.context(catalog) if catalogs else None
        return self._render(request, "about.html", {"context": context, "state": state})

    async def health(self, request: Request) -> Response:
        """Answer that this process lives, also while the search service is away."""
        return JSONResponse({"status": "ok"})

    def _render(
        self, request: Request, template: str, context: dict[str, object], status: int = 200
    ) -> Response:
        texts = choose_texts(request.headers.get("accept-language", ""))
        shown = {"t": texts, "home": State(catalog=_state_or_empty(request).catalog).url, **context}
        response = _TEMPLATES.TemplateResponse(request, template, shown, status_code=status)
        response.headers["Content-Language"] = texts["lang"]
        response.headers["Vary"] = "Accept-Language"
        return response

    def _problem(
        self, request: Request, status: int, reason: str, *, retry: bool = False, detail: str = ""
    ) -> Response:
        context: dict[str, object] = {
            "reason": reason,
            "retry": retry,
            "detail": detail,
            "state": _state_or_empty(request),
        }
        return self._render(request, "problem.html", context, status)

    async def _search_failed(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, CirError)  # noqa: S101  # registered for it
        status, reason = _STATUS.get(error.code, (503, "service_down"))
        if status == 503:
            get_logger().warning("search failed", code=error.code.name, reason=error.reason)
        detail = error.message if status == 400 else ""
        return self._problem(request, status, reason, retry=status == 503, detail=detail)

    async def _bad_state(self, request: Request, error: Exception) -> Response:
        return self._problem(request, 400, "bad_request", detail=str(error))

    async def _no_catalog(self, request: Request, error: Exception) -> Response:
        return self._problem(request, 503, "no_catalog", retry=True)

    async def _upload_gone(self, request: Request, error: Exception) -> Response:
        return self._problem(request, 410, "upload_gone")

    async def _http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  # registered for it
        return self._problem(request, error.status_code, "not_here")


def _read_state(request: Request) -> State:
    return parse(request.query_params.multi_items())


def _state_or_empty(request: Request) -> State:
    try:
        return _read_state(request)
    except BadStateError:
        return State()


async def delete_expired_uploads(uploads: Uploads, seconds: float) -> None:
    """Delete expired uploads every `seconds`, until cancelled."""
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(uploads.delete_expired)
