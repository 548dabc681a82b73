"""Connections of clients: channels that are opened with the first call, where that call is made.

A client may be built anywhere: while a module is imported, before an event loop runs, before a server forks
its workers. A channel belongs to the process and, for asyncio, to the event loop that opened it, so each
process and each loop that makes a call has one of its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TypeVar

import grpc
import grpc.aio

from cir.channel import TlsFiles, recipe
from cir.errors import CirError, FailedPrecondition

_CLOSING_S = 5.0


class _Forks:
    """Forks of this process, and what they leave of gRPC: asked by connections before they open a channel.

    gRPC prepares itself for a fork, but not while a thread is inside it, be it a call or the one that serves
    the asyncio channels. What was inside may crash or hang the child.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0
        self._connections: weakref.WeakSet[AsyncConnection] = weakref.WeakSet()
        self.amid_calls = False
        self.amid_asyncio = False
        # Run before gRPC's own, which were registered when it was imported.
        os.register_at_fork(before=self._before, after_in_child=self._in_child)

    def add(self, connection: AsyncConnection) -> None:
        """Look at a connection before each fork."""
        with self._lock:
            self._connections.add(connection)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count a blocking call while the block lasts."""
        with self._lock:
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1

    def _before(self) -> None:
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.forget_closed_loops()

    def _in_child(self) -> None:
        self._lock = threading.Lock()
        self.amid_calls = self.amid_calls or self._calls > 0
        self.amid_asyncio = self.amid_asyncio or any(one.is_open for one in list(self._connections))
        self._calls = 0


_forks = _Forks()
_CURE = "fork at another time, or start processes by the method spawn or forkserver"


class _Connection:
    """Common to both: the service's address, how channels are opened, and what refuses them."""

    def __init__(self, address: str, tls: TlsFiles | None = None) -> None:
        self.address = address
        self._recipe = recipe(address, tls)
        self._closed = False

    def _check(self) -> None:
        if self._closed:
            raise FailedPrecondition("this client is closed; make a new one")
        if _forks.amid_calls:
            raise FailedPrecondition(
                "this process was forked while another thread was in a call, and gRPC may crash here; "
                f"{_CURE}"
            )


class Connection(_Connection):
    """The channel of a blocking client, one in each process that makes calls."""

    def __init__(self, address: str, tls: TlsFiles | None = None) -> None:
        super().__init__(address, tls)
        # By process id. Those of a parent are kept, so that nothing here ends its calls.
        self._channels: dict[int, grpc.Channel] = {}

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """Lend the channel for one call.

        Raises:
            FailedPrecondition: closed, or forked in the middle of a call.
        """
        self._check()
        process = os.getpid()
        channel = self._channels.get(process)
        if channel is None:
            opened = self._recipe.open()
            channel = self._channels.setdefault(process, opened)
            if channel is not opened:
                # Another thread was faster.
                opened.close()
        try:
            with _forks.call():
                yield channel
        except ValueError as error:
            if self._closed and not isinstance(error, CirError):
                # Closed by another thread since it was looked at.
                self._check()
            raise

    def close(self) -> None:
        """Close it in this process; calls under way are cancelled, later ones are refused."""
        self._closed = True
        if channel := self._channels.pop(os.getpid(), None):
            channel.close()


class AsyncConnection(_Connection):
    """The channels of an asyncio client, one in each event loop that makes calls."""

    def __init__(self, address: str, tls: TlsFiles | None = None) -> None:
        super().__init__(address, tls)
        self._channels: dict[asyncio.AbstractEventLoop, tuple[int, grpc.aio.Channel]] = {}
        # Of a parent process: kept, so that nothing here ends its calls.
        self._of_parent: list[grpc.aio.Channel] = []
        _forks.add(self)

    @property
    def closed(self) -> bool:
        """Return True after `close`."""
        return self._closed

    @property
    def is_open(self) -> bool:
        """Return True while a loop has a channel."""
        return bool(self._channels)

    def forget_closed_loops(self) -> None:
        """Let go of the channels of loops that are over, which ends them."""
        for loop in list(self._channels):
            if loop.is_closed():
                self._forget(loop)

    def channel(self) -> grpc.aio.Channel:
        """Return the channel of the running loop.

        Raises:
            FailedPrecondition: closed, or forked in the middle of a call.
        """
        self._check()
        loop, process = asyncio.get_running_loop(), os.getpid()
        known = self._channels.get(loop)
        if known is not None and known[0] == process:
            return known[1]
        if _forks.amid_asyncio:
            raise FailedPrecondition(
                "this process was forked while an asyncio client had connections, and gRPC may hang here; "
                f"use a blocking client, or {_CURE}"
            )
        self._forget(loop)
        self.forget_closed_loops()
        channel = self._recipe.open_async()
        self._channels[loop] = (process, channel)
        return channel

    async def close(self) -> None:
        """Close them; calls under way are cancelled, later ones are refused."""
        self._closed = True
        mine = asyncio.get_running_loop()
        for loop in list(self._channels):
            channel = self._forget(loop)
            if channel is None:
                continue
            if loop is mine:
                await channel.close()
            elif loop.is_running():
                # A loop of another thread.
                closing = asyncio.run_coroutine_threadsafe(channel.close(), loop)
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.wrap_future(closing), _CLOSING_S)

    def _forget(self, loop: asyncio.AbstractEventLoop) -> grpc.aio.Channel | None:
        """Remove the channel of a loop and return it where it is this process's."""
        process, channel = self._channels.pop(loop, (0, None))
        if channel is not None and process != os.getpid():
            self._of_parent.append(channel)
            return None
        return channel


AnyConnection = TypeVar("AnyConnection", Connection, AsyncConnection)


def connection_to(connections: Mapping[str, AnyConnection], service: str) -> AnyConnection:
    """Return the connection to "search", "embedder" or "combiner".

    Raises:
        FailedPrecondition: the client was given no address of it.
    """
    if service not in connections:
        raise FailedPrecondition(
            f'this client has no address of the {service}; give it one: {service}="host:port" of cir.Client'
        )
    return connections[service]
