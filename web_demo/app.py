"""The routes: each reads the address, asks the backend, and fills a template."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.templating import Jinja2Templates

from cir.errors import CirError
from service_runtime.fair_room import FairRoom, Places, Shares
from service_runtime.http_server import client_name
from service_runtime.logging import get_logger
from service_runtime.rate_limit import TokenBuckets
from web_demo.actions import act
from web_demo.backend import NoCatalogError, SearchBackend, UploadGoneError
from web_demo.delivery import VersionedFiles, is_same_origin, middleware, static_versions
from web_demo.i18n import LOCALES, choose_texts
from web_demo.media import BadImageError, Format, Thumbnails, Uploads
from web_demo.settings import DemoSettings
from web_demo.state import BadStateError, State, parse, read_query
from web_demo.view import build_page, build_results, image_url
from web_demo.web_images import TooManyFetchesError, WebImages, is_on_the_web
from web_demo.wording import item_title

_HERE = Path(__file__).parent
_TEMPLATES = Jinja2Templates(
    env=Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
)
_STATIC_FILES = static_versions()
_LABEL = 24  # characters of an id on the tile of an item without an image
_FORM_BYTES = 64 * 1024  # of a form without its image
_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: (400, "bad_request"),
    grpc.StatusCode.NOT_FOUND: (404, "not_here"),
    grpc.StatusCode.FAILED_PRECONDITION: (409, "model_mismatch"),
}


class Pages:
    """The routes, over one backend."""

    def __init__(
        self,
        settings: DemoSettings,
        backend: SearchBackend,
        uploads: Uploads,
        thumbnails: Thumbnails,
        web_images: WebImages,
    ) -> None:
        self._settings = settings
        self._backend = backend
        self._uploads = uploads
        self._thumbnails = thumbnails
        self._web_images = web_images
        self._buckets = TokenBuckets(
            settings.uploads_per_minute / 60, max(1, round(settings.uploads_per_minute))
        )
        self._receiving = Places(settings.uploads_at_once)
        self._decoding = FairRoom(settings.decoders)
        # What visitors send may take seconds: thumbnails wait for none of it, nor do the uploads of others.
        self._decoding_uploads = FairRoom(settings.decoders)
        self._uploads_of_one = Shares(max(1, settings.decoders // 2))

    def application(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/", self.index),
                Route("/more", self.more),
                Route("/item", self.item),
                Route("/picture", self.image),
                Route("/go", self.go, methods=["GET", "POST"]),
                Route("/uploaded", self.uploaded),
                Route("/about", self.about),
                Route("/healthz", self.health),
                Mount("/static", VersionedFiles()),
            ],
            middleware=middleware(),
            exception_handlers={
                CirError: self._search_failed,
                BadStateError: self._bad_state,
                NoCatalogError: self._no_catalog,
                UploadGoneError: self._upload_gone,
                HTTPException: self._http_error,
            },
        )

    async def index(self, request: Request) -> Response:
        """Serve the start page or results. What was just said gets its place in the address first."""
        state, moved = act(request.query_params.multi_items())
        if moved:
            return RedirectResponse(state.url, 303)
        page = build_page(await self._backend.load(state))
        template = "results.html" if page.state.turns else "explore.html"
        return self._render(request, template, {"page": page, "state": page.state})

    async def more(self, request: Request) -> Response:
        """Serve the next results, as a piece of a page."""
        state = _read_state(request)
        combiner = request.query_params.get("by", "")
        token = request.query_params.get("token", "")
        answer = await self._backend.search(state, combiner, page_token=token)
        data = await self._backend.context(state.catalog)
        results = build_results(state, combiner, answer, data, await self._backend.targets(state))
        context: dict[str, object] = {
            "cards": results.cards,
            "next_page_token": results.answer.next_page_token,
            "mark": request.query_params.get("mark", "")[:1],
            "state": state,
        }
        return self._render(request, "cards.html", context)

    async def item(self, request: Request) -> Response:
        """Serve an item's payload, with the way back to the conversation."""
        state = _read_state(request)
        item = await self._backend.item(state.catalog, request.query_params.get("i", ""))
        context = {
            "item": item,
            "title": item_title(item),
            "image": image_url(state.catalog, item.id, "large"),
            "state": state,
        }
        return self._render(request, "item.html", context)

    async def image(self, request: Request) -> Response:
        """Serve an item's image, small or large; a tile with its id, as 404, where there is none to show."""
        query = request.query_params
        catalog, size = query.get("c", ""), "large" if query.get("size") == "large" else "small"
        image = await self._backend.image_location(catalog, query.get("i", ""))
        folders = (await self._backend.context(catalog)).version.image_folders
        format: Format = "webp" if "image/webp" in request.headers.get("accept", "") else "jpeg"
        content = await run_in_threadpool(self._thumbnails.kept, image, folders, format, size)
        if content is None:
            content = await self._make_thumbnail(client_name(request.scope), image, folders, format, size)
        if content is None:
            return _no_picture(query.get("i", ""))
        headers = {"Cache-Control": "private, max-age=3600", "Vary": "Accept"}
        return Response(content, media_type=f"image/{format}", headers=headers)

    async def _make_thumbnail(
        self, client: str, image: str, folders: Sequence[str], format: Format, size: str
    ) -> bytes | None:
        if not is_on_the_web(image):
            async with self._decoding.hold(client):
                return await run_in_threadpool(self._thumbnails.make, image, folders, format, size)
        try:
            original = await self._web_images.fetch(image)
        except TooManyFetchesError:
            raise HTTPException(503) from None
        if original is None:
            return None
        async with self._decoding.hold(client):
            return await run_in_threadpool(self._thumbnails.make_fetched, image, original, format, size)

    async def go(self, request: Request) -> Response:
        """Go on from what was clicked, typed or sent: an image with or without words."""
        if request.method == "GET":  # a reload of an answer that was no redirect
            return RedirectResponse("./", 303)
        if not is_same_origin(request, self._settings.origins):
            return self._problem(request, 403, "other_site")
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > self._settings.max_upload_bytes + _FORM_BYTES:
            return self._problem(request, 413, "too_many_bytes")
        if int(length) > _FORM_BYTES or "multipart/" in request.headers.get("content-type", ""):
            client = client_name(request.scope)
            if not self._receiving.has_one(client):
                return self._problem(request, 503, "too_many_uploads")
            try:
                with self._receiving.hold(client):
                    return await asyncio.wait_for(self._take(request), self._settings.upload_seconds)
            except TimeoutError:
                return self._problem(request, 408, "no_file")
        return await self._take(request)

    async def _take(self, request: Request) -> Response:
        try:
            async with request.form(max_files=1, max_fields=64, max_part_size=_FORM_BYTES) as form:
                pairs = [(key, value) for key, value in form.multi_items() if isinstance(value, str)]
                file = form.get("picture")
                content = await file.read() if isinstance(file, UploadFile) and file.size else b""
        except (MultiPartException, HTTPException, ClientDisconnect):
            return self._problem(request, 400, "no_file")
        state, _ = act(pairs)
        if not content:
            return RedirectResponse(state.url, 303)
        if self._buckets.take(client_name(request.scope)):
            return self._problem(request, 429, "too_many_uploads")
        if len(content) > self._settings.max_upload_bytes:
            return self._problem(request, 413, "too_many_bytes")
        try:
            client = client_name(request.scope)
            async with self._uploads_of_one.hold(client), self._decoding_uploads.hold(client):
                name = await run_in_threadpool(self._uploads.store, content)
        except BadImageError as error:
            return self._problem(request, 400, error.reason)
        except OSError as error:
            get_logger().warning("upload not kept", error=error.strerror or type(error).__name__)
            return self._problem(request, 507, "upload_not_kept")
        return RedirectResponse(act(pairs, upload=name)[0].url, 303)

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
        catalog = state.catalog or (await self._backend.first_catalog() if catalogs else "")
        context = await self._backend.context(catalog) if catalogs else None
        return self._render(request, "about.html", {"context": context, "state": state})

    async def health(self, request: Request) -> Response:
        """Answer that this process lives, also while the search service is away."""
        return JSONResponse({"status": "ok"})

    def _render(
        self, request: Request, template: str, context: dict[str, object], status: int = 200
    ) -> Response:
        state = context.get("state")
        assert isinstance(state, State)  # noqa: S101  # every template has one
        texts = choose_texts(request.headers.get("accept-language", ""), state.language)
        shown = {
            "t": texts,
            "languages": {name: locale["name"] for name, locale in LOCALES.items()},
            "at": "../" * (request.scope["path"].count("/") - 1),
            "static": _STATIC_FILES,
            "max_upload_bytes": self._settings.max_upload_bytes,
            "home": State(catalog=state.catalog, language=state.language).url,
            **context,
        }
        response = _TEMPLATES.TemplateResponse(request, template, shown, status_code=status)
        response.headers["Content-Language"] = texts["lang"]
        response.headers["Vary"] = "Accept-Language"
        return response

    def _problem(
        self, request: Request, status: int, reason: str, *, retry: bool = False, detail: str = ""
    ) -> Response:
        """Say what went wrong, with a way on that works: to where a form was sent from, or to the start."""
        state = _state_or_empty(request)
        if status in (400, 404):  # its catalog may be what is wrong
            state = State(language=state.language)
        context: dict[str, object] = {
            "reason": reason,
            "retry": retry,
            "detail": detail,
            "state": state,
            "back": _state_of_sender(request).url if request.method == "POST" else "",
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
        reason = "service_down" if error.status_code == 503 else "not_here"
        return self._problem(request, error.status_code, reason)


def _no_picture(item_id: str) -> Response:
    """Return the tile that stands for an item's image: browsers show it, whatever the status."""
    shown = "".join(one if one.isprintable() else " " for one in item_id)
    label = shown if len(shown) <= _LABEL else f"{shown[: _LABEL - 1]}…"
    tile = _TEMPLATES.env.get_template("no_picture.svg").render(label=label)
    return Response(tile, 404, media_type="image/svg+xml")


def _read_state(request: Request) -> State:
    return parse(request.query_params.multi_items())


def _state_or_empty(request: Request) -> State:
    try:
        return _read_state(request)
    except BadStateError:
        return State()


def _state_of_sender(request: Request) -> State:
    """Return the conversation of the page that a form was sent from; an empty one where that is not said."""
    try:
        return act(read_query(urlsplit(request.headers.get("referer", "")).query))[0]
    except (BadStateError, ValueError):
        return State()


async def delete_expired_uploads(uploads: Uploads, seconds: float) -> None:
    """Delete expired uploads every `seconds`, until cancelled."""
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(uploads.delete_expired)
