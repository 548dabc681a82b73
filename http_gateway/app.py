"""The routes of the gateway: each request becomes one call of the contract, and its answer JSON again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route as Path

from cir.channel import HEADER
from http_gateway import embeddings, reference
from http_gateway.codec import BadJsonError, from_message, query_values, read_json, to_message
from http_gateway.errors import refusal, refusal_of
from http_gateway.rules import BadPathError, Route, routes
from http_gateway.settings import GatewaySettings

_INVALID = grpc.StatusCode.INVALID_ARGUMENT
# What takes longer to read than a call to another thread does.
_LARGE = 64 * 1024
Metadata = Sequence[tuple[str, str]]
T = TypeVar("T")


class RefusedError(Exception):
    """A request that no call was made of."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Gateway:
    """HTTP over the channels to the services. For one event loop."""

    def __init__(
        self, settings: GatewaySettings, search: grpc.aio.Channel, embedder: grpc.aio.Channel | None
    ) -> None:
        self._settings = settings
        self._search = search
        self._embedder = embedder

    def application(self) -> Starlette:
        """Return the ASGI application."""
        origins = self._settings.cors_origins
        cors = Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", HEADER, "x-timeout-seconds"],
            expose_headers=["retry-after", "x-request-id"],
        )
        return Starlette(
            routes=[
                Path("/healthz", self.health),
                Path("/openapi.json", self.openapi),
                Path("/docs", self.docs),
                Path("/v1/embeddings", self.embeddings, methods=["POST"]),
                Path("/{path:path}", self.call, methods=["GET", "POST", "DELETE", "PUT", "PATCH"]),
            ],
            middleware=[*([cors] if origins else []), Middleware(GZipMiddleware, minimum_size=1000)],
            exception_handlers={RefusedError: _refused},
        )

    async def health(self, request: Request) -> Response:
        """Answer that this process lives, also while the services are away."""
        return JSONResponse({"status": "ok"})

    async def openapi(self, request: Request) -> Response:
        """Serve the description of every route."""
        return Response(reference.openapi_text(), media_type="application/json")

    async def docs(self, request: Request) -> Response:
        """Serve the same as a page, which needs nothing from elsewhere."""
        return HTMLResponse(
            reference.page(),
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )

    async def call(self, request: Request) -> Response:
        """Make the call that a request means."""
        route, fields = _find(request)
        body = await self._body(request) if route.has_body else b""
        message = await _off_loop(len(body), lambda: _to_request(route, fields, request, body))
        answer = await self._ask(self._search, route.path, message, request)
        response = GetMessageClass(route.response)()
        try:
            response.ParseFromString(answer)
        except DecodeError:
            return refusal(grpc.StatusCode.INTERNAL, "the answer of the service cannot be read")
        return await _off_loop(len(answer), lambda: JSONResponse(from_message(response)))

    async def embeddings(self, request: Request) -> Response:
        """Embed texts and images in the shape that OpenAI's clients send."""
        if self._embedder is None:
            return refusal(grpc.StatusCode.UNIMPLEMENTED, "this gateway was given no embedder: --embedder")
        body = await self._body(request)
        try:
            asked = await _off_loop(len(body), lambda: embeddings.read(read_json(body)))
        except BadJsonError as error:
            return refusal(_INVALID, str(error), field=error.field)
        try:
            return await embeddings.answer(
                asked, self._embedder, self._metadata(request), self._timeout(request)
            )
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)

    async def _ask(self, channel: grpc.aio.Channel, path: str, message: Message, request: Request) -> bytes:
        """Return the bytes of an answer.

        Raises:
            RefusedError: the service refused the call, or cannot be reached.
        """
        try:
            method: Callable[..., Awaitable[bytes]] = channel.unary_unary(path)
            return await method(
                message.SerializeToString(), metadata=self._metadata(request), timeout=self._timeout(request)
            )
        except grpc.aio.AioRpcError as error:
            raise RefusedError(refusal_of(error)) from error

    def _metadata(self, request: Request) -> Metadata:
        """Return the key of a request, as the services take it.

        Raises:
            RefusedError: a key that cannot be sent.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        key = request.headers.get(HEADER, "") or (token.strip() if scheme.lower() == "bearer" else "")
        if not (key.isascii() and key.isprintable()):
            raise RefusedError(
                refusal(grpc.StatusCode.UNAUTHENTICATED, "a key has printable ASCII characters only")
            )
        return ((HEADER, key),) if key else ()

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

    async def _body(self, request: Request) -> bytes:
        """Return the body of a request.

        Raises:
            RefusedError: it is no JSON, too large, or does not come.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        most = self._settings.max_body_bytes
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > most:
            raise RefusedError(refusal(_INVALID, f"the body has more than {most} bytes", status=413))
        received = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                async for piece in request.stream():
                    received += piece
                    if len(received) > most:
                        raise RefusedError(
                            refusal(_INVALID, f"the body has more than {most} bytes", status=413)
                        )
        except TimeoutError as error:
            raise RefusedError(
                refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "the body did not come", status=408)
            ) from error
        except ClientDisconnect as error:
            raise RefusedError(refusal(grpc.StatusCode.CANCELLED, "the client is gone")) from error
        if received and kind != "application/json":
            raise RefusedError(refusal(_INVALID, "the body's Content-Type is application/json", status=415))
        return bytes(received)


def _find(request: Request) -> tuple[Route, dict[str, str]]:
    """Return the route of a request and the fields that its path holds.

    Raises:
        RefusedError: there is no such route, or not by this verb.
    """
    raw = (
        (request.scope.get("raw_path") or request.scope["path"].encode()).decode("latin-1").partition("?")[0]
    )
    verbs = set()
    try:
        for route in routes():
            fields = route.match(raw)
            if fields is None:
                continue
            if route.verb == request.method:
                return route, dict(fields)
            verbs.add(route.verb)
    except BadPathError as error:
        raise RefusedError(refusal(_INVALID, str(error))) from error
    if verbs:
        allow = {"Allow": ", ".join(sorted(verbs))}
        raise RefusedError(
            refusal(grpc.StatusCode.UNIMPLEMENTED, "not by this method", status=405, headers=allow)
        )
    raise RefusedError(refusal(grpc.StatusCode.NOT_FOUND, "there is no such address; all are on /docs"))


def _to_request(route: Route, fields: dict[str, str], request: Request, body: bytes) -> Message:
    """Return the message of a call.

    Raises:
        RefusedError: the request means none.
    """
    try:
        pairs = request.query_params.multi_items()
        if route.has_body and pairs:
            raise BadJsonError("this call takes no parameters beside its body", pairs[0][0][:100])
        value = read_json(body) if route.has_body else query_values(pairs, route.request, fields)
        for name in fields:
            if name in value or route.request.fields_by_name[name].json_name in value:
                raise BadJsonError(f"{name} is in the path", name)
        return to_message({**value, **fields}, route.request)
    except BadJsonError as error:
        raise RefusedError(refusal(_INVALID, str(error)[:800], field=error.field[:200])) from error


async def _off_loop(size: int, work: Callable[[], T]) -> T:
    """Do work beside the event loop where `size` bytes are much of it."""
    return await asyncio.to_thread(work) if size > _LARGE else work()


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)  # noqa: S101  # registered for it
    return error.response
