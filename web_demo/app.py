"""The routes, and the headers of their answers.

Each route reads the address, asks the backend, and fills a template."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
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
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from cir.errors import CirError
from service_runtime.logging import get_logger
from service_runtime.rate_limit import TokenBuckets
from web_demo.backend import SearchBackend, UploadGoneError
from web_demo.i18n import texts_for
from web_demo.media import BadImageError, Thumbnails, Uploads
from web_demo.settings import DemoSettings
from web_demo.state import BadStateError, State, parse
from web_demo.view import item_title

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
    """Nothing but our own files, no guessing of types, no framing, no address told to other sites."""
    response = await call(request)
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["Permissions-Policy"] = "geolocation=(), microphone=(), camera=(self)"
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def is_same_origin(request: Request) -> bool:
    """Whether a browser sent this from one of our own pages. What is no browser sends neither header."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host", "")


_HERE = Path(__file__).parent
_TEMPLATES = Jinja2Templates(
    env=Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True, auto_reload=False)
)
_FORM_ROOM = 64 * 1024  # bytes of a form beside its picture
_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: (400, "bad_request"),
    grpc.StatusCode.NOT_FOUND: (404, "not_here"),
    grpc.StatusCode.FAILED_PRECONDITION: (409, "model_mismatch"),
}


class Pages:
    """What every route needs."""

    def __init__(
        self, settings: DemoSettings, desk: SearchBackend, uploads: Uploads, thumbnails: Thumbnails
    ) -> None:
        self._settings = settings
        self._desk = desk
        self._uploads = uploads
        self._thumbnails = thumbnails
        self._buckets = TokenBuckets(
            settings.uploads_per_minute / 60, max(1, round(settings.uploads_per_minute))
        )

    def application(self) -> Starlette:
        """The web application."""
        return Starlette(
            routes=[
                Route("/", self.index),
                Route("/more", self.more),
                Route("/item", self.item),
                Route("/picture", self.picture),
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
                UploadGoneError: self._upload_gone,
                HTTPException: self._http,
            },
        )

    async def index(self, request: Request) -> Response:
        """The wall, or results. What was just said gets its place in the address first."""
        state = _state(request)
        if "x" in request.query_params:
            return RedirectResponse(state.url, 303)
        page = await self._desk.page(state)
        if page.notice:
            return self._problem(request, 503, page.notice, retry=True)
        template = "results.html" if page.state.turns else "explore.html"
        return self._render(request, template, {"page": page})

    async def more(self, request: Request) -> Response:
        """The next results, as a piece of a page."""
        state = _state(request)
        found = await self._desk.found(
            state, request.query_params.get("by", ""), page_token=request.query_params.get("token", "")
        )
        return self._render(request, "cards.html", {"cards": found.cards, "more": found.more, "state": state})

    async def item(self, request: Request) -> Response:
        """An item's payload."""
        state = _state(request)
        item = await self._desk.item(state.catalog, request.query_params.get("i", ""))
        context = {"item": item, "title": item_title(item.id, item.payload), "state": state}
        return self._render(request, "item.html", context)

    async def picture(self, request: Request) -> Response:
        """An item's thumbnail."""
        image = await self._desk.image(request.query_params.get("c", ""), request.query_params.get("i", ""))
        kind = "webp" if "image/webp" in request.headers.get("accept", "") else "jpeg"
        content = await run_in_threadpool(self._thumbnails.of, image, kind)
        if content is None:
            raise HTTPException(404)
        headers = {"Cache-Control": "private, max-age=3600", "Vary": "Accept"}
        return Response(content, media_type=f"image/{kind}", headers=headers)

    async def upload(self, request: Request) -> Response:
        """Take a picture and go on from it."""
        if not is_same_origin(request):
            return self._problem(request, 403, "other_site")
        caller = request.client.host if request.client else ""
        if self._buckets.take(caller):
            return self._problem(request, 429, "too_many_uploads")
        most = self._settings.max_upload_bytes
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > most + _FORM_ROOM:
            return self._problem(request, 413, "too_many_bytes")
        try:
            async with request.form(max_files=1, max_fields=4, max_part_size=_FORM_ROOM) as form:
                file = form.get("picture")
                if not isinstance(file, UploadFile) or not file.size:
                    return self._problem(request, 400, "no_file")
                if file.size > most:
                    return self._problem(request, 413, "too_many_bytes")
                content = await file.read()
                query = form.get("state", "")
            name = await run_in_threadpool(self._uploads.keep, content)
        except BadImageError as error:
            return self._problem(request, 400, error.reason)
        except (MultiPartException, HTTPException):
            return self._problem(request, 400, "no_file")
        state = parse(parse_qsl(query.removeprefix("?") if isinstance(query, str) else ""))
        return RedirectResponse(state.started(upload=name).url, 303)

    async def uploaded(self, request: Request) -> Response:
        """An uploaded picture, as it was re-encoded."""
        try:
            content = await run_in_threadpool(self._uploads.read, request.query_params.get("n", ""))
        except ValueError:
            content = None
        if content is None:
            raise HTTPException(404)
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    async def about(self, request: Request) -> Response:
        """Who answers."""
        state = _state(request)
        catalogs = await self._desk.published()
        shop = await self._desk.shop(state.catalog or catalogs[0].name) if catalogs else None
        return self._render(request, "about.html", {"shop": shop, "catalogs": catalogs, "state": state})

    async def health(self, request: Request) -> Response:
        """Whether this process lives. That the search is away makes no page server ill."""
        return JSONResponse({"status": "ok"})

    def _render(
        self, request: Request, template: str, context: dict[str, object], status: int = 200
    ) -> Response:
        words = texts_for(request.headers.get("accept-language", ""))
        shown = {"t": words, "home": State(catalog=_quiet_state(request).catalog).url, **context}
        response = _TEMPLATES.TemplateResponse(request, template, shown, status_code=status)
        response.headers["Content-Language"] = words["lang"]
        response.headers["Vary"] = "Accept-Language"
        return response

    def _problem(
        self, request: Request, status: int, reason: str, *, retry: bool = False, detail: str = ""
    ) -> Response:
        context: dict[str, object] = {
            "reason": reason,
            "retry": retry,
            "detail": detail,
            "state": _quiet_state(request),
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

    async def _upload_gone(self, request: Request, error: Exception) -> Response:
        return self._problem(request, 410, "upload_gone")

    async def _http(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  # registered for it
        return self._problem(request, error.status_code, "not_here")


def _state(request: Request) -> State:
    return parse(request.query_params.multi_items())


def _quiet_state(request: Request) -> State:
    try:
        return _state(request)
    except BadStateError:
        return State()


async def tidy_uploads(uploads: Uploads, seconds: float) -> None:
    """Delete uploads whose time is over, for as long as the process lives."""
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(uploads.tidy)
