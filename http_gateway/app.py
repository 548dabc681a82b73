"""The routes of the gateway: each request becomes one call of the contract, and its answer JSON again."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route as Path
from starlette.types import ASGIApp

from cir.channel import HEADER
from cir.common.v1 import errors_pb2
from cir.search.v1 import catalog_pb2
from http_gateway import embeddings, grpc_web, reference
from http_gateway.access import AccessLog
from http_gateway.body import Body, content_of, receive
from http_gateway.codec import BadJsonError, put_file, query_values, to_message
from http_gateway.errors import RefusedError, Service, refusal, refusal_of, status_of
from http_gateway.json_writer import from_message
from http_gateway.rules import BadPathError, Route, routes
from http_gateway.settings import GatewaySettings
from service_runtime.contract import json_path, request_of
from service_runtime.errors import ServiceError
from service_runtime.fair_room import FairRoom, Shares
from service_runtime.http_server import HEALTH, Busy, client_name
from service_runtime.logging import REQUEST_ID

_INVALID = grpc.StatusCode.INVALID_ARGUMENT
# What takes longer to read than a call to another thread does.
_LARGE = 64 * 1024
_VERBS = ["GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"]
# The addresses that are not of the contract, which routes go by first.
_OWN = {HEALTH: {"GET"}, "/openapi.json": {"GET"}, "/docs": {"GET"}, "/v1/embeddings": {"POST"}}
_KEY_CHECK = "/cir.search.v1.CatalogService/ListCatalogs"
Metadata = Sequence[tuple[str, str]]
T = TypeVar("T")


class Gateway:
    """HTTP over the channels to the services. For one event loop."""

    def __init__(
        self, settings: GatewaySettings, search: grpc.aio.Channel, embedder: grpc.aio.Channel | None
    ) -> None:
        self._settings = settings
        self._search = search
        self._embedder = embedder
        self._search_service = Service("search", settings.search)
        self._embedder_service = Service("embedder", settings.embedder or "")
        self._turns = FairRoom(1)
        self._calls = Shares(settings.calls_of_a_client)

    def application(self) -> ASGIApp:
        """Return the ASGI application."""
        most = self._settings.max_requests
        busy = ServiceError(
            errors_pb2.OVERLOADED, f"{most} requests are under way, which is the limit", retry_after=1.0
        )
        return AccessLog(Busy(self._routes(), most, refusal_of(status_of(busy), 503)))

    def _routes(self) -> Starlette:
        origins = self._settings.cors_origins
        cors = Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=[
                *("authorization", "content-type", HEADER, REQUEST_ID, "x-timeout-seconds"),
                *grpc_web.SENT,
            ],
            expose_headers=["retry-after", REQUEST_ID, *grpc_web.READ],
        )
        return Starlette(
            routes=[
                Path(HEALTH, self.health),
                Path("/openapi.json", self.openapi),
                Path("/docs", self.docs),
                Path("/v1/embeddings", self.embeddings, methods=["POST"]),
                Path("/{path:path}", self.call, methods=_VERBS),
            ],
            middleware=[
                *([cors] if origins else []),
                Middleware(GZipMiddleware, minimum_size=1000, compresslevel=1),
            ],
            exception_handlers={
                RefusedError: _refused,
                HTTPException: _no_such_route,
                Exception: _failed,
            },
        )

    async def health(self, request: Request) -> Response:
        """Answer that this process lives, also while the services are away."""
        request.state.call = "health"
        return JSONResponse({"status": "ok"})

    async def openapi(self, request: Request) -> Response:
        """Serve the description of every route."""
        request.state.call = "openapi"
        return Response(reference.openapi_text(), media_type="application/json")

    async def docs(self, request: Request) -> Response:
        """Serve the same as a page, which needs nothing from elsewhere."""
        request.state.call = "docs"
        return HTMLResponse(
            reference.page(),
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )

    async def call(self, request: Request) -> Response:
        """Make the call that a request means."""
        if request.headers.get("content-type", "").startswith(grpc_web.KIND):
            return await self.call_by_grpc_web(request)
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": ", ".join(_allowed(request))})
        route, fields = _find(request)
        request.state.call = route.path
        body = await receive(request, self._settings, forms=route.takes_files) if route.has_body else Body()
        message = await self._off_loop(
            request, len(body.content), lambda: _to_request(route, fields, request, body)
        )
        answer = await self._ask(route.path, message, request)
        response = GetMessageClass(route.response)()
        try:
            response.ParseFromString(answer)
        except DecodeError:
            return refusal(grpc.StatusCode.INTERNAL, "the answer of the service cannot be read")
        return await self._off_loop(request, len(answer), lambda: JSONResponse(from_message(response)))

    async def call_by_grpc_web(self, request: Request) -> Response:
        """Make a call of the contract that came as gRPC-Web."""
        kind = request.headers["content-type"].partition(";")[0].strip()
        path = request.url.path
        if request.method != "POST" or path not in {route.path for route in routes()}:
            none = ServiceError(errors_pb2.NOT_SERVED, "there is no such unary call")
            return grpc_web.refuse(status_of(none), kind)
        request.state.call = path
        content = await content_of(request, self._settings)
        try:
            message = grpc_web.read_call(content, kind)
            timeout = grpc_web.read_timeout(request.headers.get("grpc-timeout", ""))
        except BadJsonError as error:
            return grpc_web.refuse(status_of(ServiceError(errors_pb2.FIELD_INVALID, str(error))), kind)
        most = self._settings.timeout_seconds
        call = partial(self._call, path, message, self._metadata(request))
        try:
            return grpc_web.answer(await self._in_turn(request, min(timeout or most, most), call), kind)
        except (grpc.aio.AioRpcError, ServiceError) as error:
            return grpc_web.refuse(self._search_service.status_of(error), kind)

    async def embeddings(self, request: Request) -> Response:
        """Embed texts and images in the shape that OpenAI's clients send."""
        request.state.call = "embeddings"
        if self._embedder is None:
            return refusal(grpc.StatusCode.UNIMPLEMENTED, "this gateway was given no embedder: --embedder")
        body = await receive(request, self._settings, forms=True)
        try:
            asked = await self._off_loop(request, len(body.content), lambda: embeddings.read(*body.read()))
        except BadJsonError as error:
            return refusal(_INVALID, str(error)[:800], field=error.field[:200])
        # The embedder may know no keys: whoever may not search may not embed.
        await self._ask(_KEY_CHECK, catalog_pb2.ListCatalogsRequest(page_size=1), request)
        embed = partial(embeddings.answer, asked, self._embedder, self._metadata(request))
        try:
            return await self._in_turn(request, self._timeout(request), embed)
        except (grpc.aio.AioRpcError, ServiceError) as error:
            return refusal_of(self._embedder_service.status_of(error), spelled=embeddings.spelled)

    async def _ask(self, path: str, message: Message, request: Request) -> bytes:
        """Return the bytes of an answer of the search service.

        Raises:
            RefusedError: the service refused the call, or cannot be reached.
        """
        call = partial(self._call, path, message.SerializeToString(), self._metadata(request))
        try:
            return await self._in_turn(request, self._timeout(request), call)
        except (grpc.aio.AioRpcError, ServiceError) as error:
            spelled = partial(json_path, request_of(path))
            status = self._search_service.status_of(error)
            raise RefusedError(refusal_of(status, spelled=spelled)) from error

    async def _call(self, path: str, message: bytes, metadata: Metadata, timeout: float) -> bytes:
        method: Callable[..., Awaitable[bytes]] = self._search.unary_unary(path)
        return await method(message, metadata=metadata, timeout=timeout)

    async def _in_turn(self, request: Request, timeout: float, call: Callable[[float], Awaitable[T]]) -> T:
        """Return what `call` comes to in what is left of `timeout` seconds when it is its turn.

        Few calls of one client are with a service at a time, where all of them wait in one row with those of
        other clients. Its keys take turns: they may be of many back ends behind one address, and a key that
        was made up gets its client alone another turn.

        Raises:
            ServiceError: it was not its turn in time.
            RefusedError: the client has gone.
        """
        return await _while_there(request, self._wait_and_call(request, timeout, call))

    async def _wait_and_call(
        self, request: Request, timeout: float, call: Callable[[float], Awaitable[T]]
    ) -> T:
        ends = time.monotonic() + timeout
        client, key = client_name(request.scope), _key_of(request)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(timeout):
                    await stack.enter_async_context(self._calls.hold(client, on_behalf_of=key))
            except TimeoutError as error:
                waited = "earlier requests of this client took all of the time given"
                raise ServiceError(errors_pb2.DEADLINE, waited) from error
            return await call(ends - time.monotonic())

    async def _off_loop(self, request: Request, size: int, work: Callable[[], T]) -> T:
        """Do work beside the event loop where `size` bytes are much of it.

        Clients take turns, and one work is done at a time: the loop shares the interpreter with it.
        """
        if size <= _LARGE:
            return work()
        async with self._turns.hold(client_name(request.scope)):
            return await asyncio.to_thread(work)

    def _metadata(self, request: Request) -> Metadata:
        """Return the key of a request, as the services take it, and its id.

        Raises:
            RefusedError: a key that cannot be sent.
        """
        key = _key_of(request)
        if not (key.isascii() and key.isprintable()):
            raise RefusedError(
                refusal(grpc.StatusCode.UNAUTHENTICATED, "a key has printable ASCII characters only")
            )
        return ((REQUEST_ID, request.state.request_id), *(((HEADER, key),) if key else ()))

    def _timeout(self, request: Request) -> float:
        """Return the seconds that a call may take.

        Raises:
            RefusedError: the request asks for what is no time.
        """
        text = request.headers.get("x-timeout-seconds", "")
        try:
            seconds = float(text) if text else self._settings.timeout_seconds
        except ValueError:
            seconds = math.nan
        if not seconds > 0:
            raise RefusedError(refusal(_INVALID, "X-Timeout-Seconds is no number of seconds above 0"))
        return min(seconds, self._settings.timeout_seconds)


def _key_of(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return request.headers.get(HEADER, "") or (token.strip() if scheme.lower() == "bearer" else "")


def _raw_path(request: Request) -> str:
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return raw.decode("latin-1").partition("?")[0]


def _find(request: Request) -> tuple[Route, dict[str, str]]:
    """Return the route of a request and the fields that its path holds.

    Raises:
        RefusedError: there is no such route, or not by this verb.
    """
    verb = "GET" if request.method == "HEAD" else request.method
    path = _raw_path(request)
    try:
        for route in routes():
            fields = route.match(path) if route.verb == verb else None
            if fields is not None:
                return route, dict(fields)
    except BadPathError as error:
        raise RefusedError(refusal(_INVALID, str(error))) from error
    allowed = ", ".join(_allowed(request))
    message = f"not by this method, but by {allowed}"
    raise RefusedError(
        refusal(grpc.StatusCode.UNIMPLEMENTED, message, status=405, headers={"Allow": allowed})
    )


def _allowed(request: Request) -> list[str]:
    """Return the verbs that an address takes.

    Raises:
        RefusedError: there is no such address.
    """
    path = _raw_path(request)
    verbs = {route.verb for route in routes() if route.pattern.fullmatch(path)} | _OWN.get(path, set())
    if not verbs:
        nothing = "there is no such address; all are on /docs"
        raise RefusedError(refusal(grpc.StatusCode.UNIMPLEMENTED, nothing, status=404))
    return sorted(verbs | {"OPTIONS"} | ({"HEAD"} if "GET" in verbs else set()))


def _to_request(route: Route, fields: dict[str, str], request: Request, body: Body) -> Message:
    """Return the message of a call.

    Raises:
        RefusedError: the request means none.
    """
    try:
        pairs = request.query_params.multi_items()
        if route.has_body and pairs:
            raise BadJsonError("this call takes no parameters beside its body", pairs[0][0][:100])
        value, files = body.read() if route.has_body else (query_values(pairs, route.request, fields), {})
        for name in fields:
            if name in value or route.request.fields_by_name[name].json_name in value:
                raise BadJsonError(f"{name} is in the path", name)
        message = to_message({**value, **fields}, route.request)
        for path, content in files.items():
            put_file(message, path, content)
        return message
    except BadJsonError as error:
        raise RefusedError(refusal(_INVALID, str(error)[:800], field=error.field[:200])) from error


async def _while_there(request: Request, work: Awaitable[T]) -> T:
    """Return what `work` comes to; it is cancelled when the client of the request has gone.

    Raises:
        RefusedError: the client has gone.
    """
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise RefusedError(refusal(grpc.StatusCode.CANCELLED, "the client has gone"))
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)  # noqa: S101  # registered for it
    return error.response


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for it
    return refusal(
        grpc.StatusCode.UNIMPLEMENTED, error.detail, status=error.status_code, headers=error.headers
    )


async def _failed(request: Request, error: Exception) -> Response:
    return refusal(grpc.StatusCode.INTERNAL, "internal error; the gateway's log has it under the request id")
