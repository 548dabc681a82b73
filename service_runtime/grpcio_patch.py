"""An asyncio gRPC server that unknown methods cannot end, and that costly metadata cannot hold up.

grpc.aio decodes the method's name of an unknown call in its accept loop, and one byte in it that is not UTF-8
ends the loop, and with it the server, for all callers (grpcio 1.85). Here these calls never reach that loop:
they are answered UNIMPLEMENTED outside it. Known methods are registered with the core, which compares their
bytes.

HTTP/2 lets a caller name a header again with one byte, and grpc.aio makes an object of each, twice, before a
handler sees the call. Callers send such calls faster than that, and what waits takes memory. So a call with
too many entries is answered before its handler is looked for, and after one with far too many the next of its
connection are answered unread.

grpc.aio takes one call of a method after another from the core, in the order in which they came, and goes
round its event loop several times for each: a caller that opens calls faster than that is ahead of all others
for as long as it likes. So several are taken at a time, and handed on in turns of hosts and connections.

For each event the core's thread writes a byte to a socket, of which a round of the event loop reads one. Some
two hundred events fill the socket; then the thread waits, and every further event, of whatever call, costs a
round. So each round reads all of them.
"""

from __future__ import annotations

import asyncio
import os
import time
from array import array
from collections.abc import Callable, Coroutine, Hashable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import grpc.aio
from grpc._cython import cygrpc
from grpc.aio import _server

from cir.common.v1 import errors_pb2 as pb
from service_runtime.errors import ServiceError
from service_runtime.rate_limit import peer_name
from service_runtime.turns import RoundRobin

try:
    import fcntl
    import termios
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")

#: A call of this many times the entries that are taken is costly.
COSTLY = 4
#: Seconds for which calls of a connection are refused unread after a costly one. Few, since a proxy has many
#: callers.
REFUSED_SECONDS = 1.0
#: Connections that are remembered.
MAX_REFUSED = 4096


#: Calls of one method that the core is asked for at a time, when nothing waits and when much does.
LEAST_ASKED, MOST_ASKED = 8, 512


class MetadataLimit:
    """Tells which calls' metadata are taken, and remembers the connections of costly ones."""

    def __init__(self, max_entries: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._refused_until: dict[str, float] = {}

    def __len__(self) -> int:
        """Number of connections that are remembered."""
        return len(self._refused_until)

    def takes(self, peer: str, entries: Callable[[], Sequence[object]]) -> bool:
        """Return whether a call is taken.

        `peer` is a connection as gRPC names it ("ipv4:10.0.0.7:4242"); those of a Unix socket have one name,
        and are not remembered. `entries` returns the metadata, and costs what they cost.
        """
        now = self._clock()
        if self._refused_until.get(peer, now) > now:
            return False
        self._refused_until.pop(peer, None)
        number = len(entries())
        if number > COSTLY * self._max_entries and not peer.startswith("unix"):
            if len(self._refused_until) >= MAX_REFUSED:
                del self._refused_until[next(iter(self._refused_until))]
            self._refused_until[peer] = now + REFUSED_SECONDS
        return number <= self._max_entries


def read_events_at_once(loop: asyncio.AbstractEventLoop) -> bool:
    """Have a loop read all events of the core in each of its rounds; return False where there is no core."""
    selector = getattr(loop, "_selector", None)
    for key in list(selector.get_map().values()) if selector is not None else ():
        handler: Any = getattr(key.data[0], "_callback", None)
        owner = getattr(getattr(handler, "func", None), "__self__", None)
        if fcntl is not None and type(owner).__name__ == "PollerCompletionQueue":
            loop.add_reader(key.fd, partial(read_all_but_one, key.fd, handler))
            return True
        if getattr(handler, "func", None) is read_all_but_one:
            return True
    return False


def read_all_but_one(descriptor: int, handler: Callable[[], None]) -> None:
    """Read the bytes that wait, and leave the last one to a handler, which takes one and then all events."""
    waiting = array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, waiting)
    if waiting[0] > 1:
        os.read(descriptor, waiting[0] - 1)
    handler()


class Arrivals(Generic[T]):
    """Calls of one method that came and were not handed on yet. For one event loop.

    `ask` returns the next call of the core, `admit` its host and connection, or None for a call that it has
    answered itself.
    """

    def __init__(
        self,
        ask: Callable[[], Coroutine[Any, Any, T]],
        admit: Callable[[T], tuple[Hashable, Hashable] | None],
    ) -> None:
        self._ask = ask
        self._admit = admit
        self._waiting: RoundRobin[T] = RoundRobin()
        self._count = 0
        self._asking: set[asyncio.Task[T]] = set()
        self._changed = asyncio.Event()
        self._failure: BaseException | None = None

    async def next(self) -> T:
        """Return the call whose turn it is, once there is one.

        Raises:
            Exception: what asking the core failed with, as it does when the server stops. Calls that wait
                then are gone.
        """
        self._ask_more()
        while not self._waiting:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            self._changed.clear()
            await self._changed.wait()
        connection = self._waiting.next_caller()
        call = self._waiting.drop_oldest(connection)
        self._waiting.end_turn(connection)
        self._count -= 1
        return call

    def _ask_more(self) -> None:
        while len(self._asking) < min(MOST_ASKED, LEAST_ASKED + self._count):
            task = asyncio.get_running_loop().create_task(self._ask())
            self._asking.add(task)
            task.add_done_callback(self._came)

    def _came(self, task: asyncio.Task[T]) -> None:
        self._asking.discard(task)
        if task.cancelled():
            return
        self._changed.set()
        if (failure := task.exception()) is not None:
            # The server does not stop before all its calls are gone.
            self._failure, self._waiting, self._count = failure, RoundRobin(), 0
            return
        call = task.result()
        if (place := self._admit(call)) is not None:
            host, connection = place
            self._waiting.put(connection, call, party=host)
            self._count += 1
        self._ask_more()


class _CoreServer(cygrpc.AioServer):  # type: ignore[misc]  # compiled, without types
    """The core's server; it hands out calls of registered methods with metadata in bounds."""

    def __init__(
        self,
        loop: Any,
        interceptors: Any,
        arguments: Any,
        max_metadata_entries: int,
        refused: Callable[[], None],
    ) -> None:
        super().__init__(loop, None, (), interceptors, arguments, None)
        self._running_loop = loop
        self._limit = MetadataLimit(max_metadata_entries)
        self._too_many = ServiceError(
            pb.TOO_MANY_ITEMS,
            f"the call's metadata, or that of another call on its connection, has more than "
            f"{max_metadata_entries} entries; send fewer",
        ).status()
        self._refused = refused
        self._answering: set[asyncio.Task[None]] = set()
        self._arrivals: dict[bytes, Arrivals[Any]] = {}

    async def _request_registered_call(self, method: bytes) -> Any:
        """Return the next call of a method: one whose metadata are in bounds, and whose turn it is."""
        if method not in self._arrivals:
            ask = partial(super()._request_registered_call, method)
            self._arrivals[method] = Arrivals(ask, self._place)
        return await self._arrivals[method].next()

    def _place(self, state: Any) -> tuple[str, str] | None:
        context = cygrpc._ServicerContext(state, None, None, self._running_loop)
        peer = context.peer()
        if self._limit.takes(peer, context.invocation_metadata):
            return peer_name(peer), peer
        self._refused()
        self._answer(context, self._too_many.code, self._too_many.details, self._too_many)
        return None

    async def _request_call(self) -> Any:
        """Never return a call to the accept loop. Ends when it is cancelled or the server stops."""
        while True:
            state = await super()._request_call()
            context = cygrpc._ServicerContext(state, None, None, self._running_loop)
            self._answer(context, grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    def _answer(
        self, context: Any, code: grpc.StatusCode, details: str, status: grpc.Status | None = None
    ) -> None:
        trailing = () if status is None else status.trailing_metadata
        task = self._running_loop.create_task(_abort(context, code, details, trailing))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)


async def _abort(context: Any, code: grpc.StatusCode, details: str, trailing: Any) -> None:
    try:
        await context.abort(code, details, trailing)
    except cygrpc.BaseError as error:
        # The call keeps it, so its frames would keep the call.
        error.__traceback__ = None


class _Server(_server.Server):
    def __init__(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        options: Sequence[tuple[str, Any]],
        max_metadata_entries: int,
        refused: Callable[[], None],
    ) -> None:
        self._loop = cygrpc.get_working_loop()
        arguments = _server._augment_channel_arguments(options, None)
        self._server = _CoreServer(self._loop, interceptors, arguments, max_metadata_entries, refused)
        read_events_at_once(self._loop)
        self._registered: set[str] = set()

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[Any]) -> None:
        """Register the methods of services: generated code of before grpcio 1.63 names them here alone."""
        for handlers in generic_rpc_handlers:
            methods = {name.rpartition("/")[2]: one for name, one in handlers._method_handlers.items()}
            self.add_registered_method_handlers(handlers.service_name(), methods)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """Register the methods of a service, once."""
        if service_name not in self._registered:
            self._registered.add(service_name)
            super().add_registered_method_handlers(service_name, method_handlers)


def create_server(
    *,
    interceptors: Sequence[grpc.aio.ServerInterceptor],
    options: Sequence[tuple[str, Any]],
    max_metadata_entries: int,
    refused: Callable[[], None] = lambda: None,
) -> grpc.aio.Server:
    """Create a server as `grpc.aio.server` does; it calls `refused` for each call of too many entries.

    Handlers that are no service's are not taken.
    """
    server: Any = _Server(interceptors, options, max_metadata_entries, refused)
    return server  # type: ignore[no-any-return]
