"""Connections of an HTTP server: bounded in number, idle ones give way, and what does not move is closed."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from itertools import count
from typing import Any, Generic, TypeVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import get_remote_addr

from service_runtime.fair_room import Places
from service_runtime.rate_limit import host_name
from service_runtime.turns import RoundRobin

T = TypeVar("T", bound=Hashable)

# Lines of what is read at once, 256 KiB at most, and bytes of the pieces in which more are read.
_MOST_LINES, _PIECE_BYTES = 300, 2048


class ConnectionPlaces(Generic[T]):
    """Places of connections, told apart by host, of which idle ones give way to new ones.

    The last eighth is for hosts that hold few (`Places`). Where there is no place for a host, the connection
    that has been idle longest gives way, of the host that holds the most of all that have idle ones. A host
    that holds many takes none from one that holds fewer: opening connections without end costs it its own.
    `give_way` is called with what loses its place. For one event loop.
    """

    def __init__(self, most: int, give_way: Callable[[T], None]) -> None:
        self._places = Places(most)
        self._give_way = give_way
        self._host_of: dict[T, str] = {}
        # Of each host, the longest idle first, with numbers that grow.
        self._idle: dict[str, OrderedDict[T, int]] = {}
        self._numbers = count()

    @property
    def taken(self) -> int:
        """Places that are held."""
        return self._places.taken

    def enter(self, host: str, connection: T) -> bool:
        """Take a place for a new connection, which is idle so far; return False where there is none."""
        if not self._places.has_one(host):
            other = self._next_to_go(host)
            if other is None:
                return False
            self.leave(other)
            self._give_way(other)
        self._places.take(host)
        self._host_of[connection] = host
        self.set_idle(connection)
        return True

    def leave(self, connection: T) -> None:
        """Give a place back, if the connection still has one."""
        self.set_busy(connection)
        host = self._host_of.pop(connection, None)
        if host is not None:
            self._places.give_back(host)

    def set_idle(self, connection: T) -> None:
        """Note that a connection is idle; since when it is, where that was noted before."""
        host = self._host_of.get(connection)
        if host is not None:
            self._idle.setdefault(host, OrderedDict()).setdefault(connection, next(self._numbers))

    def set_busy(self, connection: T) -> None:
        """Note that a connection is not idle."""
        host = self._host_of.get(connection)
        if host in self._idle:
            self._idle[host].pop(connection, None)
            if not self._idle[host]:
                del self._idle[host]

    def _next_to_go(self, host: str) -> T | None:
        if not self._idle:
            return None
        held = self._places.of

        def rank(other: str) -> tuple[int, int]:
            return held(other), -next(iter(self._idle[other].values()))

        most = max(self._idle, key=rank)
        if self._places.holds_many(host) and held(most) < held(host):
            return None
        return next(iter(self._idle[most]))


class _Pieces:
    """Data sent in very many lines, read by small pieces, one at a time of all connections.

    Between two of them the event loop does other things.
    """

    def __init__(self) -> None:
        self._waiting: RoundRobin[bytes] = RoundRobin()
        self._running = False

    def has(self, connection: Any) -> bool:
        """Return True when something of a connection waits."""
        return self._waiting.oldest(connection) is not None

    def put(self, connection: Any, data: bytes) -> None:
        """Append what a connection has sent."""
        for place in range(0, len(data), _PIECE_BYTES):
            self._waiting.put(connection, data[place : place + _PIECE_BYTES])
        if not self._running:
            self._running = True
            asyncio.get_running_loop().call_soon(self._read)

    def drop(self, connection: Any) -> None:
        """Forget a connection."""
        while self.has(connection):
            self._waiting.drop_oldest(connection)

    def _read(self) -> None:
        self._running = bool(self._waiting)
        if not self._waiting:
            return
        asyncio.get_running_loop().call_soon(self._read)
        connection: Any = self._waiting.next_caller()
        piece = self._waiting.drop_oldest(connection)
        self._waiting.end_turn(connection)
        connection.take(piece, last=not self.has(connection))


def bounded_protocol(
    most: int, seconds: float, closed: Callable[[str], None] = lambda _: None
) -> type[asyncio.Protocol]:
    """Return the class of connections that uvicorn opens.

    A connection over `most` is closed at once, unless an idle one gives way (`ConnectionPlaces`). One is idle
    while nothing of a request or of an answer is under way, and is closed after uvicorn's
    `timeout_keep_alive`. After one to two times `seconds` one is closed too that has not sent the rest of a
    request's head, has taken nothing of an answer, or goes on with a body that has been answered; uvicorn
    itself would wait for ever. `closed` hears "refused" or "gave_way" of each that finds or keeps no place.
    """

    def give_way(idle: Bounded) -> None:
        closed("gave_way")
        idle.timeout_keep_alive_handler()

    pieces = _Pieces()
    places = ConnectionPlaces(most, give_way)

    class Bounded(H11Protocol):
        _waiting: object = None
        _looking: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            client = get_remote_addr(transport)
            if not places.enter(host_name(client[0]) if client else "", self):
                closed("refused")
                transport.abort()
                return
            super().connection_made(transport)
            self._look()

        def data_received(self, data: bytes) -> None:
            if self.transport is None:
                return
            self._unset_keepalive_if_required()
            places.set_busy(self)
            if pieces.has(self) or data.count(b"\r\n") > _MOST_LINES:
                # Chunks of a few bytes, perhaps: reading them takes a thousand times as long as it should.
                self.transport.pause_reading()
                pieces.put(self, data)
            else:
                super().data_received(data)
                self._settle()

        def take(self, piece: bytes, last: bool) -> None:
            """Read a piece of what came before."""
            super().data_received(piece)
            if last and self.transport is not None and not self.flow.read_paused:
                self.transport.resume_reading()
            self._settle()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._settle()

        def eof_received(self) -> None:
            if self.transport is not None:
                super().eof_received()

        def connection_lost(self, exc: Exception | None) -> None:
            places.leave(self)
            pieces.drop(self)
            if self._looking is not None:
                self._looking.cancel()
            if self.transport is not None:
                super().connection_lost(exc)
                # After a reset it would wait, and keep the connection's memory.
                self._unset_keepalive_if_required()

        def _settle(self) -> bool:
            """Return True when the connection is idle, which it then is until something comes."""
            idle = (
                self.conn.our_state is self.conn.their_state is h11.IDLE
                and not self.conn.trailing_data[0]
                and not pieces.has(self)
                and not self.transport.get_write_buffer_size()
                and not self.transport.is_closing()
            )
            if idle:
                places.set_idle(self)
                if self.timeout_keep_alive_task is None:
                    self.timeout_keep_alive_task = self.loop.call_later(
                        self.timeout_keep_alive, self.timeout_keep_alive_handler
                    )
            return idle

        def _look(self) -> None:
            """Close the connection when nothing has moved since the last look: of a head, or of an answer."""
            unsent, theirs = self.transport.get_write_buffer_size(), self.conn.their_state
            answered = theirs is h11.SEND_BODY and self.cycle.response_complete
            head = theirs is h11.IDLE and not self._settle()
            waiting = (self.cycle, unsent) if unsent or answered or head else None
            if waiting is not None and waiting == self._waiting:
                # Closing alone would wait for what is unsent.
                self.transport.abort() if unsent else self.transport.close()
                return
            self._waiting = waiting
            self._looking = self.loop.call_later(seconds, self._look)

    return Bounded
