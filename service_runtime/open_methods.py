"""Health and reflection: what is served without a key, so within narrow bounds for every connection."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cir.common.v1 import errors_pb2 as pb
from service_runtime.errors import ServiceError
from service_runtime.receive import Context, Inbox, Messages, Method

#: Questions on one stream of reflection.
MAX_QUESTIONS = 1000


class Health(health_pb2_grpc.HealthServicer):
    """The health protocol over a fixed set of names. Watching an unknown name costs no more than its call."""

    def __init__(self, statuses: Mapping[str, int]) -> None:
        self._statuses = dict(statuses)
        self._changed = asyncio.Event()

    def set(self, names: Iterable[str], status: int) -> None:
        """Change the status of some names, and tell those who watch them. On the event loop."""
        self._statuses.update(dict.fromkeys(names, status))
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: Any, context: Context) -> Any:  # noqa: N802  # the contract's name
        """Answer with the status of a name; NOT_FOUND for an unknown one."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no service of this name is served here")
        return health_pb2.HealthCheckResponse(status=status)

    async def List(self, request: Any, context: Context) -> Any:  # noqa: N802  # the contract's name
        """Answer with the statuses of all names."""
        answer = health_pb2.HealthCheckResponse
        statuses = {name: answer(status=status) for name, status in self._statuses.items()}
        return health_pb2.HealthListResponse(statuses=statuses)  # type: ignore[attr-defined]  # untyped yet

    async def Watch(self, request: Any, context: Context) -> None:  # noqa: N802  # the contract's name
        """Answer with the status of a name now, and at each change of it."""
        name = request.service if request.service in self._statuses else None
        del request
        last = None
        while True:
            changed = self._changed
            unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            status = unknown if name is None else self._statuses[name]
            if status != last:
                await context.write(health_pb2.HealthCheckResponse(status=status))
            last = status
            await changed.wait()


class OpenMethods:
    """Wrapper of the open methods' handlers: messages in bounds, and few calls on each connection."""

    def __init__(self, inbox: Inbox, max_calls: int) -> None:
        self._inbox = inbox
        self._max_calls = max_calls
        self._calls: Counter[str] = Counter()

    def wrap(self, name: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """Return a handler that reads its messages itself and gives them to the method's own one."""
        method = self._inbox.method(name, handler.request_deserializer or bytes)
        answers = {"response_serializer": handler.response_serializer}
        if handler.unary_unary is not None:
            return grpc.stream_unary_rpc_method_handler(self._one(method, handler.unary_unary), **answers)
        if handler.unary_stream is not None:
            return grpc.stream_stream_rpc_method_handler(self._one(method, handler.unary_stream), **answers)
        questions: Any = handler.stream_stream
        return grpc.stream_stream_rpc_method_handler(self._many(method, questions), **answers)

    def _one(self, method: Method, inner: Callable[..., Any]) -> Callable[[Any, Context], Any]:
        async def serve(_requests: Any, context: Context) -> Any:
            try:
                with self._counted(context):
                    return await inner(await self._request(context, method), context)
            except ServiceError as error:
                await context.abort_with_status(error.status())

        return serve

    async def _request(self, context: Context, method: Method) -> Any:
        return await self._inbox.parsed(await self._inbox.receive(context, method), method, context.peer())

    def _many(
        self, method: Method, inner: Callable[..., AsyncGenerator[Any]]
    ) -> Callable[[Any, Context], AsyncIterator[Any]]:
        async def serve(requests: Any, context: Context) -> AsyncIterator[Any]:
            messages = Messages(self._inbox, requests, method, context.peer())
            try:
                with self._counted(context):
                    async with aclosing(inner(_first(messages, MAX_QUESTIONS), context)) as answers:
                        async for answer in answers:
                            yield answer
            except ServiceError as error:
                await context.abort_with_status(error.status())
            finally:
                messages.close()

        return serve

    @contextmanager
    def _counted(self, context: Context) -> Iterator[None]:
        """Count the call on its connection, or refuse it."""
        connection = context.peer()
        if self._calls[connection] >= self._max_calls:
            raise ServiceError(
                pb.OVERLOADED,
                f"{self._max_calls} calls of health and reflection are under way on this connection; end one",
                retry_after=1.0,
            )
        self._calls[connection] += 1
        try:
            yield
        finally:
            self._inbox.ended()
            self._calls[connection] -= 1
            if not self._calls[connection]:
                del self._calls[connection]


async def _first(messages: Messages, number: int) -> AsyncIterator[Any]:
    """Yield up to `number` messages.

    Raises:
        ServiceError: TOO_MANY_ITEMS, when there are more.
    """
    async for message in messages:
        if not number:
            raise ServiceError(
                pb.TOO_MANY_ITEMS, f"a stream takes {MAX_QUESTIONS} questions; open another one"
            )
        number -= 1
        yield message
