"""The one interceptor around every call: readiness, admission, request id, errors, log line, time left."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import grpc
import grpc.aio

from cir.common.v1 import errors_pb2 as pb
from service_runtime.aborted import forget_aborted
from service_runtime.auth import ApiKey, Authenticator, caller_context
from service_runtime.contract import OPEN_METHODS, named_part, request_of
from service_runtime.error_report import forget_frames, name_error
from service_runtime.errors import ServiceError, internal_status
from service_runtime.fair_room import Places, Shares
from service_runtime.logging import REQUEST_ID, bound_contextvars, get_logger, request_id_of
from service_runtime.metrics import CallMetrics
from service_runtime.open_methods import OpenMethods
from service_runtime.rate_limit import peer_name
from service_runtime.receive import Inbox, Messages, Method
from service_runtime.tracing import trace_facts

#: Seconds that a service keeps for its own answer of the time that its caller gives.
ANSWER_MARGIN = 0.02
# A call without a deadline reports a remaining time of this order (about 9e18 s); none lasts a day.
_FOREVER = 86_400.0
# Codes of refusals that no caller can do anything about.
_OURS = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL})
_request_id: ContextVar[str] = ContextVar("request_id", default="")

Context = grpc.aio.ServicerContext[Any, Any]
#: Of a call: its key, None where no keys are used, or why it is refused.
Identity = ApiKey | ServiceError | None


def call_metadata() -> tuple[tuple[str, str], ...]:
    """Return metadata for a call to another service: the request id of the call being served."""
    request_id = _request_id.get()
    return ((REQUEST_ID, request_id),) if request_id else ()


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wrapper of every method; health and reflection have one of their own.

    A call is let in, then its message is received (`receive.py`), then it is admitted and counted: those
    whose message never comes hold no place. Of one caller's unary calls `calls_of_a_caller` are worked on at
    a time, where that is set, and the others wait for them. `translate` turns an exception of the
    application's own layers into the refusal that the caller gets, and returns None for a bug (see
    `Application.translate`).
    """

    def __init__(
        self,
        inbox: Inbox,
        *,
        max_concurrent_calls: int,
        max_open_calls: int,
        calls_of_a_caller: int | None = None,
        authenticator: Authenticator | None = None,
        translate: Callable[[Exception], ServiceError | None] = lambda _: None,
    ) -> None:
        self._translate = translate
        self._limit = max_concurrent_calls
        self._authenticator = authenticator or Authenticator()
        self._inbox = inbox
        self._open = OpenMethods(inbox, max_open_calls)
        self._places = Places(max_concurrent_calls)
        self._streams: Counter[str] = Counter()
        self._shares = None if calls_of_a_caller is None else Shares(calls_of_a_caller)
        self.metrics = CallMetrics(running=lambda: self._places.taken, limit=max_concurrent_calls)
        self.ready = False

    @property
    def running(self) -> int:
        """Number of calls being served."""
        return self._places.taken

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the method's own handler."""
        handler = await continuation(details)
        method = str(details.method)
        if handler is None:
            return None
        if method.startswith(OPEN_METHODS):
            return forget_aborted(self._open.wrap(method, handler))
        key = self._authenticator.authenticate(method, details.invocation_metadata)
        received = self._inbox.method(method, handler.request_deserializer or bytes)
        served: grpc.RpcMethodHandler[Any, Any]
        # To gRPC each is a stream, whose messages are read when they are asked for: of a refused call, never.
        if handler.unary_unary is not None:
            served = grpc.stream_unary_rpc_method_handler(
                self._unary(received, handler.unary_unary, key),
                response_serializer=handler.response_serializer,
            )
        elif handler.stream_stream is not None:
            served = grpc.stream_stream_rpc_method_handler(
                self._stream(received, handler.stream_stream, key),
                response_serializer=handler.response_serializer,
            )
        else:
            raise NotImplementedError(f"{method}: only unary and bidirectional methods are served")
        return forget_aborted(served)

    def _unary(
        self, method: Method, inner: Callable[..., Any], key: Identity
    ) -> Callable[[Any, Context], Awaitable[Any]]:
        async def serve(_requests: Any, context: Context) -> Any:
            with self._observe(method.name, key, context) as started:
                try:
                    answer = await self._answer(method, inner, key, context)
                except BaseException as error:
                    await self._fail(method.name, context, error, started)
                    raise
                self._record_end(method.name, "OK", started)
                return answer

        return serve

    async def _answer(
        self, method: Method, inner: Callable[..., Any], key: Identity, context: Context
    ) -> object:
        admitted, caller = self._let_in(method.name, key, context)
        content = await self._inbox.receive(context, method)
        size = len(content)
        self._inbox.hold(caller, size)
        try:
            with self._admit(method.name, admitted, caller):
                async with self._turn(method.name, caller), self._inbox.room_for(content, method, caller):
                    request = self._inbox.parse(content, method)
                    answer = inner(request, context)
                    # The handler's alone from here, or a refused one would stay until its call ends.
                    del content, request
                    return await answer
        finally:
            self._inbox.release(caller, size)

    def _stream(
        self, method: Method, inner: Callable[..., Any], key: Identity
    ) -> Callable[[Any, Context], AsyncIterator[Any]]:
        async def serve(requests: Any, context: Context) -> AsyncIterator[Any]:
            with self._observe(method.name, key, context) as started:
                try:
                    admitted, caller = self._let_in(method.name, key, context)
                    messages = Messages(self._inbox, requests, method, caller)
                    try:
                        with self._share_of_streams(caller), self._admit(method.name, admitted, caller):
                            # Closed with the call, or its clean-up would wait for garbage collection.
                            async with aclosing(inner(messages, context)) as answers:
                                async for answer in answers:
                                    yield answer
                    finally:
                        messages.close()
                except BaseException as error:
                    await self._fail(method.name, context, error, started)
                    raise
                self._record_end(method.name, "OK", started)

        return serve

    @contextmanager
    def _observe(self, method: str, key: Identity, context: Context) -> Iterator[float]:
        """Run a call's body with its request id and log fields; yield when it started."""
        with (
            _request(context) as request_id,
            bound_contextvars(request_id=request_id, method=method, **_caller(key, context), **trace_facts()),
        ):
            try:
                yield time.perf_counter()
            finally:
                self._inbox.ended()

    def _let_in(self, method: str, key: Identity, context: Context) -> tuple[ApiKey | None, str]:
        """Return a call's key and the name that its caller is counted under, or refuse the call."""
        if isinstance(key, ServiceError):
            raise key
        self._authenticator.check_rate(key, context.peer())
        if not self.ready:
            raise ServiceError(pb.NOT_READY, "the service is starting or stopping; try another replica")
        caller = f"key {key.name}" if key is not None else f"peer {peer_name(context.peer())}"
        self._check_room(method, caller)
        return key, caller

    def _check_room(self, method: str, caller: str) -> None:
        if not self._places.has_one(caller) and "/Get" not in method:
            raise ServiceError(
                pb.OVERLOADED,
                f"{self._places.taken} calls are under way, {self._places.of(caller)} of this caller, whose "
                f"limit is {self._places.limit(caller)}; try again later",
                retry_after=0.2,
            )

    @contextmanager
    def _admit(self, method: str, key: ApiKey | None, caller: str) -> Iterator[None]:
        """Count the call, or refuse it. Our own count, because gRPC's would refuse health checks too."""
        self._check_room(method, caller)
        with self._places.hold(caller), caller_context(key, caller):
            yield

    def _turn(self, method: str, caller: str) -> AbstractAsyncContextManager[None]:
        """Hold one of the places of a caller's calls, once it is free; `Get...` calls have others."""
        if self._shares is None:
            return nullcontext()
        return self._shares.hold(f"{caller} Get" if "/Get" in method else caller)

    @contextmanager
    def _share_of_streams(self, caller: str) -> Iterator[None]:
        """Count a stream, which may idle: those of one caller take half of all places at most."""
        if self._streams[caller] >= max(1, self._limit // 2):
            raise ServiceError(
                pb.OVERLOADED,
                f"{self._streams[caller]} streams of this caller are open, half of the calls that are taken; "
                "end one",
                retry_after=1.0,
            )
        self._streams[caller] += 1
        try:
            yield
        finally:
            self._streams[caller] -= 1
            if not self._streams[caller]:
                del self._streams[caller]

    async def _fail(self, method: str, context: Context, error: BaseException, started: float) -> None:
        """End the call for `error`: a refusal with its status, a bug as INTERNAL."""
        refusal = self._refusal(error)
        if refusal is not None:
            reason = pb.ErrorReason.Name(refusal.reason)
            self.metrics.record_refusal(reason)
            self._record_end(
                method, refusal.code.name, started, reason=reason, **_facts(method, refusal, error)
            )
            status = refusal.status()
            # Its frames hold the message, and ending the call can take a while.
            forget_frames(error)
            await _abort(context, status)
        elif isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            self._record_end(method, "CANCELLED", started)
        elif isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
            get_logger().error("call failed", exc_info=error)
            self._record_end(method, "INTERNAL", started)
            forget_frames(error)
            await _abort(context, internal_status())

    def _refusal(self, error: BaseException) -> ServiceError | None:
        """Return the refusal that an exception is or stands for, or None for anything else."""
        if isinstance(error, ServiceError):
            return error
        if isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
            return self._translate(error)
        return None

    def _record_end(self, method: str, code: str, started: float, **facts: str) -> None:
        """Log and count a call that has ended."""
        seconds = time.perf_counter() - started
        self.metrics.record_end(method, code, seconds)
        get_logger().info("call", code=code, elapsed_ms=round(seconds * 1000, 2), **facts)


def _facts(method: str, refusal: ServiceError, error: BaseException) -> dict[str, str]:
    """Return log fields that say why a call was refused, without quoting it as the message may."""
    facts = dict(refusal.log_facts)
    if field := named_part(request_of(method), refusal.field):
        facts["field"] = field
    cause = error.__cause__ if error is refusal else error
    if refusal.code in _OURS and cause is not None:
        facts["cause"] = name_error(cause)
    return facts


def _caller(key: Identity, context: Context) -> dict[str, str]:
    """Return log fields for a call's sender: the name of its key, or its address when it has no known key."""
    if isinstance(key, ServiceError):
        return {"peer": context.peer()}
    return {"key": key.name} if key is not None else {}


@contextmanager
def _request(context: Context) -> Iterator[str]:
    """Take the caller's request id or make one; send it back, and set it for calls to other services."""
    metadata = dict(context.invocation_metadata() or ())
    request_id = request_id_of(metadata.get(REQUEST_ID, ""))
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


async def _abort(context: Context, status: grpc.Status) -> None:
    """End the call, keeping the request id, which the details of a status alone would replace."""
    trailing = (*(context.trailing_metadata() or ()), *(status.trailing_metadata or ()))
    await context.abort(status.code, status.details, trailing)


def remaining_seconds(context: grpc.aio.ServicerContext[Any, Any], default: float) -> float:
    """Return the seconds left of the call, `default` where the caller set no deadline."""
    left = context.time_remaining()
    return default if left is None or left > _FOREVER else min(left, default)


def downstream_timeout(context: grpc.aio.ServicerContext[Any, Any], default: float) -> float:
    """Return the timeout in seconds for a call to another service: the time left less a margin to answer.

    Raises:
        ServiceError: DEADLINE when nothing is left.
    """
    left = remaining_seconds(context, default) - ANSWER_MARGIN
    if left <= 0:
        raise ServiceError(pb.DEADLINE, "the call's time ran out; send it with a longer deadline")
    return left
