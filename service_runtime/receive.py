"""A call's message is received once the call was let in, and within bounds of time, bytes and parts.

To gRPC every method is one whose messages are read by its handler. So a call that is refused (no key, too
fast, overload) costs no reading, and a message that is too large for its method, or made of too many parts,
costs no parsing. Malformed bytes are the caller's fault, where gRPC itself would answer UNKNOWN.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError

from cir.common.v1 import errors_pb2 as pb
from service_runtime.contract import holds_items_alone, largest_message, request_of
from service_runtime.errors import ServiceError
from service_runtime.fair_room import FairRoom, Shares
from service_runtime.memory import MemoryReturn
from service_runtime.settings import ServiceSettings
from service_runtime.wire_walk import MalformedError, TextTooLongError, TooManyPartsError, WireWalk

T = TypeVar("T")
Parse = Callable[[bytes], Any]
Context = grpc.aio.ServicerContext[Any, Any]

#: Messages up to this size are parsed without counting: the parser makes a few megabytes of them at most.
UNCOUNTED_BYTES = 64 * 1024
#: Longest text in a message, whatever its field, but for texts of items that are refused alone; fields have
#: lower limits of their own.
MAX_TEXT_BYTES = 2 * 1024 * 1024
#: Messages of many parts that exist as objects at a time.
MAX_LARGE = 4
# What gRPC and Python keep of a call, roughly.
_CALL_BYTES = 2048
# What gRPC makes of an entry of the metadata, which can be named with one byte.
_ENTRY_BYTES = 160
# What the parser makes of a part, roughly.
_PART_BYTES = 64
# Parts counted on the event loop, about a millisecond; the rest of a larger message is counted on a thread.
_PARTS_AT_ONCE = 2_000
# Of the message of the call being served, where they were counted.
_parts: ContextVar[int] = ContextVar("parts", default=0)
_ASIDE = ThreadPoolExecutor(1, "aside")


@dataclass(frozen=True, slots=True)
class Method:
    """A method as its messages are received: their kind, how they are parsed, and their largest size."""

    name: str
    kind: Descriptor | None
    parse: Parse
    max_bytes: int


class Inbox:
    """Receives the messages of a server's calls.

    `limits` are largest sizes of methods that differ from what their messages can hold.
    """

    def __init__(self, settings: ServiceSettings, limits: Mapping[str, int] | None = None) -> None:
        self._settings = settings
        self._limits = limits or {}
        self._held: Counter[str] = Counter()
        self._memory = MemoryReturn()
        self._many_parts = FairRoom(MAX_LARGE)
        self._many_parts_of_a_caller = Shares(MAX_LARGE // 2)

    def method(self, name: str, parse: Parse) -> Method:
        """Return how messages of a method are received."""
        kind = request_of(name)
        largest = largest_message(name, kind, self._settings.max_message_bytes)
        largest = min(self._limits.get(name, largest), self._settings.max_message_bytes)
        return Method(name, kind, parse, largest)

    def hold(self, caller: str, size: int) -> None:
        """Count a message's bytes as worked on, until `release`.

        Raises:
            ServiceError: OVERLOADED, when those of its caller are too many together.
        """
        held, limit = self._held[caller], self._settings.max_caller_bytes
        if held and held + size > limit:
            self._memory.freed(size)
            raise ServiceError(
                pb.OVERLOADED,
                f"{held} bytes of this caller are being worked on, with this message's {size} more than "
                f"{limit}; send fewer or smaller calls at a time",
                retry_after=0.5,
            )
        self._held[caller] += size

    def release(self, caller: str, size: int) -> None:
        """Count a message's bytes as gone."""
        _take(self._held, caller, size)
        self._memory.freed(size)

    def ended(self) -> None:
        """Count a call as gone."""
        self._memory.freed(_CALL_BYTES)

    def refused(self) -> None:
        """Count a call with too much metadata as gone."""
        self._memory.freed(_ENTRY_BYTES * self._settings.max_metadata_bytes)

    async def receive(self, context: Context, method: Method) -> bytes:
        """Return the bytes of a unary call's message.

        Raises:
            ServiceError: DEADLINE when it does not come in time; MALFORMED or OUT_OF_RANGE.
        """
        content = await self._in_time(context.read(), self._settings.receive_timeout_seconds)
        if content is grpc.aio.EOF:
            raise ServiceError(pb.MALFORMED, "the call has no message; send one")
        return self._sized(content, method)

    async def receive_next(self, contents: AsyncIterator[bytes], method: Method) -> bytes:
        """Return the bytes of a stream's next message.

        Raises:
            ServiceError: DEADLINE after `stream_idle_seconds` without one; OUT_OF_RANGE.
            StopAsyncIteration: there is none.
        """
        return self._sized(await self._in_time(anext(contents), self._settings.stream_idle_seconds), method)

    async def parsed(self, content: bytes, method: Method, caller: str) -> Any:
        """Return the message.

        Raises:
            ServiceError: MALFORMED, TOO_MANY_ITEMS or TEXT_TOO_LONG.
        """
        async with self.room_for(content, method, caller):
            return self.parse(content, method)

    @asynccontextmanager
    async def room_for(self, content: bytes, method: Method, caller: str) -> AsyncIterator[None]:
        """Count a message's parts, and wait for room where they are many.

        Few such messages exist at a time, and one caller has half of them at most.

        Raises:
            ServiceError: MALFORMED, TOO_MANY_ITEMS or TEXT_TOO_LONG.
        """
        if len(content) <= UNCOUNTED_BYTES or method.kind is None:
            yield
            return
        parts = await self._count(content, method.kind)
        _parts.set(parts)
        if parts <= _PARTS_AT_ONCE:
            yield
            return
        try:
            async with self._many_parts_of_a_caller.hold(caller), self._many_parts.hold(caller):
                yield
        finally:
            self._memory.freed(_PART_BYTES * parts)

    def parse(self, content: bytes, method: Method) -> Any:
        """Return the message of counted bytes.

        Raises:
            ServiceError: MALFORMED.
        """
        try:
            return method.parse(content)
        except (DecodeError, UnicodeDecodeError) as error:
            raise _malformed(content) from error

    async def _count(self, content: bytes, kind: Descriptor) -> int:
        """Return the number of parts of a message."""
        limit = self._settings.max_message_parts
        # An item's own limits hold for its texts: one that breaks them is that item's error.
        inner = len(content) if holds_items_alone(kind) else MAX_TEXT_BYTES
        walk = WireWalk(
            content, kind, max_parts=limit, max_text_bytes=MAX_TEXT_BYTES, max_inner_text_bytes=inner
        )
        try:
            if not walk.advance(_PARTS_AT_ONCE):
                await aside(walk.advance, limit + 1)
            return walk.parts
        except MalformedError as error:
            raise _malformed(content) from error
        except TooManyPartsError as error:
            raise ServiceError(
                pb.TOO_MANY_ITEMS,
                f"the request has more than {limit} fields and elements in all; send it in several",
            ) from error
        except TextTooLongError as error:
            raise ServiceError(
                pb.TEXT_TOO_LONG, f"a text `{error}` of the request has more than {MAX_TEXT_BYTES} bytes"
            ) from error

    def _sized(self, content: bytes, method: Method) -> bytes:
        if len(content) > method.max_bytes:
            self._memory.freed(len(content))
            raise ServiceError(
                pb.OUT_OF_RANGE,
                f"the request has {len(content)} bytes; this method takes at most {method.max_bytes}",
            )
        return content

    async def _in_time(self, awaited: Awaitable[Any], seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds):
                return await awaited
        except TimeoutError:
            raise ServiceError(
                pb.DEADLINE, f"no whole message came in {seconds:g} s; send it faster, or when it is ready"
            ) from None


async def aside(work: Callable[..., T], *arguments: object) -> T:
    """Return `work(*arguments)`, done on the one thread for what is large, so that the event loop goes on.

    One, since the loop shares the interpreter with every thread that is busy.
    """
    run = partial(copy_context().run, work, *arguments)
    return await asyncio.get_running_loop().run_in_executor(_ASIDE, run)


async def parse_aside(parse: Callable[..., T], *arguments: object) -> T:
    """Return `parse(*arguments)`, aside when the call's message has many parts."""
    if _parts.get() <= _PARTS_AT_ONCE:
        return parse(*arguments)
    return await aside(parse, *arguments)


class Messages:
    """The parsed messages of a stream, each held until the next is asked for, the last until `close`."""

    def __init__(self, inbox: Inbox, contents: AsyncIterator[bytes], method: Method, caller: str) -> None:
        self._inbox = inbox
        self._contents = contents
        # Only when the first message is wanted: one that nobody reads from is a coroutine never awaited.
        self._reading: AsyncIterator[bytes] | None = None
        self._method = method
        self._caller = caller
        self._held = 0

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        self.close()
        if self._reading is None:
            self._reading = aiter(self._contents)
        content = await self._inbox.receive_next(self._reading, self._method)
        self._inbox.hold(self._caller, len(content))
        self._held = len(content)
        return await self._inbox.parsed(content, self._method, self._caller)

    def close(self) -> None:
        """Count the message that is held as gone."""
        held, self._held = self._held, 0
        if held:
            self._inbox.release(self._caller, held)


def _malformed(content: bytes) -> ServiceError:
    return ServiceError(
        pb.MALFORMED,
        f"the request's {len(content)} bytes are not the message that this method takes; build it with stubs "
        "of this contract",
    )


def _take(counts: Counter[str], caller: str, number: int) -> None:
    counts[caller] -= number
    if not counts[caller]:
        del counts[caller]
