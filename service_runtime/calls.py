"""The one interceptor around every call: readiness, admission, request id, errors, log line."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from typing import Any

import grpc
import grpc.aio
from structlog.contextvars import bound_contextvars

from cir.common.v1 import errors_pb2 as pb
from service_runtime.errors import ServiceError, internal_status
from service_runtime.logging import get_logger

REQUEST_ID = "x-request-id"
_OPEN_TO_ALL = ("/grpc.health.", "/grpc.reflection.")
_request_id: ContextVar[str] = ContextVar("request_id", default="")

Context = grpc.aio.ServicerContext[Any, Any]


def call_metadata() -> tuple[tuple[str, str], ...]:
    """Metadata for a call to another service: the request id of the call being served."""
    request_id = _request_id.get()
    return ((REQUEST_ID, request_id),) if request_id else ()


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method but health and reflection."""

    def __init__(self, *, max_concurrent_calls: int) -> None:
        self._limit = max_concurrent_calls
        self._running = 0
        self.ready = False

    @property
    def running(self) -> int:
        """Calls under way."""
        return self._running

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Put `_serve` around the method's own handler."""
        handler = await continuation(details)
        method = str(details.method)
        if handler is None or method.startswith(_OPEN_TO_ALL):
            return handler
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(method, handler.unary_unary),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._stream(method, handler.stream_stream),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        raise NotImplementedError(f"{method}: only unary and bidirectional methods are served")

    def _unary(self, method: str, inner: Callable[..., Any]) -> Callable[[Any, Context], Awaitable[Any]]:
        async def serve(request: Any, context: Context) -> Any:
            with _request(context) as request_id, bound_contextvars(request_id=request_id, method=method):
                started = time.perf_counter()
                try:
                    with self._admitted(method):
                        answer = await inner(request, context)
                except BaseException as error:
                    await _fail(context, error, started)
                    raise
                _log(started, "OK")
                return answer

        return serve

    def _stream(self, method: str, inner: Callable[..., Any]) -> Callable[[Any, Context], AsyncIterator[Any]]:
        async def serve(requests: Any, context: Context) -> AsyncIterator[Any]:
            with _request(context) as request_id, bound_contextvars(request_id=request_id, method=method):
                started = time.perf_counter()
                try:
                    with self._admitted(method):
                        # Closed with the call, or its clean-up would wait for garbage collection.
                        async with aclosing(inner(requests, context)) as answers:
                            async for answer in answers:
                                yield answer
                except BaseException as error:
                    await _fail(context, error, started)
                    raise
                _log(started, "OK")

        return serve

    @contextmanager
    def _admitted(self, method: str) -> Iterator[None]:
        """Count the call, or refuse it: our own count, because gRPC's would refuse health checks too."""
        if not self.ready:
            raise ServiceError(pb.NOT_READY, "the service is starting or stopping; try another replica")
        if self._running >= self._limit and "/Get" not in method:
            raise ServiceError(
                pb.OVERLOADED,
                f"{self._running} calls are under way, the limit is {self._limit}; try again later",
                retry_after=0.2,
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1


@contextmanager
def _request(context: Context) -> Iterator[str]:
    """Take the caller's request id or make one, send it back, and have it for calls to other services."""
    metadata = dict(context.invocation_metadata() or ())
    given = metadata.get(REQUEST_ID, "")
    request_id = (
        given
        if isinstance(given, str) and 0 < len(given) <= 128 and given.isprintable()
        else uuid.uuid4().hex
    )
    context.set_trailing_metadata(((REQUEST_ID, request_id),))
    token = _request_id.set(request_id)
    try:
        yield request_id
    finally:
        try:
            _request_id.reset(token)
        except ValueError:
            # A stream that is torn down is closed from another context; that context goes with it.
            _request_id.set("")


async def _fail(context: Context, error: BaseException, started: float) -> None:
    """End the call for `error`: a refusal with its status, a bug as INTERNAL; the rest is the caller's."""
    if isinstance(error, ServiceError):
        _log(started, error.code.name, reason=pb.ErrorReason.Name(error.reason), error=error.message)
        await _abort(context, error.status())
    elif isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        _log(started, "CANCELLED")
    elif isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
        get_logger().error("call failed", exc_info=error)
        await _abort(context, internal_status())


async def _abort(context: Context, status: grpc.Status) -> None:
    """End the call; the request id goes along, which the details of a status alone would replace."""
    trailing = (*(context.trailing_metadata() or ()), *(status.trailing_metadata or ()))
    await context.abort(status.code, status.details, trailing)


def _log(started: float, code: str, **facts: str) -> None:
    elapsed_ms = round((time.perf_counter() - started) * 1000, 2)
    get_logger().info("call", code=code, elapsed_ms=elapsed_ms, **facts)
