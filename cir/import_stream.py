"""Streams of an import, blocking and for asyncio: sent, answered, and opened again when they break."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc.aio

from cir.errors import CirError, InvalidArgument
from cir.imports import Import, Imported, OnProgress, may_resume
from cir.retry import wait_before
from cir.search.v1 import catalog_pb2

# A service lets go of a version within this time, once a stream has ended in order.
_END_SECONDS = 5.0


class _Patience:
    """Time for opening streams again, counted from the last item that got done."""

    def __init__(self, state: Import, seconds: float) -> None:
        if not seconds >= 0:
            raise InvalidArgument(f"retry_seconds is {seconds}; expected 0 or more", field="retry_seconds")
        self._state = state
        self._seconds = seconds
        self._done = -1
        self._attempt = 0
        self._deadline = 0.0

    def wait_after(self, error: CirError) -> float:
        """Return the seconds to wait before the next stream.

        Raises:
            CirError: `error`, when another stream makes no sense or it took too long.
        """
        now, done = time.monotonic(), self._state.progress().done
        if done > self._done:
            self._done, self._attempt, self._deadline = done, 0, now + self._seconds
        wait = wait_before(self._attempt, error.retry_after or 0.0)
        if not may_resume(error) or now + wait > self._deadline:
            raise error
        self._attempt += 1
        return wait


def import_items(
    state: Import,
    open_stream: Callable[[Iterator[bytes]], Any],
    translate: Callable[[grpc.RpcError], CirError],
    on_progress: OnProgress,
    retry_seconds: float,
) -> Imported:
    """Carry an import out over as many streams as it takes.

    `open_stream` opens one for an iterator of messages, `translate` makes an exception of a failed call.

    Raises:
        CirError: it cannot go on.
    """
    patience = _Patience(state, retry_seconds)
    while True:
        stream = _Stream(state)
        try:
            stream.run(open_stream, translate, on_progress)
            return state.progress()
        except CirError as error:
            time.sleep(patience.wait_after(error))


class _Stream:
    """One blocking stream: gRPC takes the messages on a thread of its own."""

    def __init__(self, state: Import) -> None:
        self._state = state
        self._changed = threading.Condition()
        self._started = False
        self._stopped = False
        self._error: Exception | None = None

    def run(
        self,
        open_stream: Callable[[Iterator[bytes]], Any],
        translate: Callable[[grpc.RpcError], CirError],
        on_progress: OnProgress,
    ) -> None:
        """Send and take answers until the service ends the stream."""
        try:
            call = open_stream(self._messages())
            try:
                for content in call:
                    self._take(catalog_pb2.ImportItemsResponse.FromString(content), call)
                    on_progress(self._state.progress())
            except grpc.RpcError as error:
                if self._error is None:
                    raise translate(error) from error
            finally:
                call.cancel()
        finally:
            self._stop()
        if self._error is not None:
            raise self._error

    def _take(self, answer: catalog_pb2.ImportItemsResponse, call: Any) -> None:
        if not self._started:
            try:
                self._state.start(answer)
            except CirError:
                self._end(call)
                raise
        else:
            self._state.take(answer)
        with self._changed:
            self._started = True
            self._changed.notify_all()

    def _stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _end(self, call: Any) -> None:
        """Do as `_end` of the asyncio client."""
        self._stop()
        late = threading.Timer(_END_SECONDS, call.cancel)
        late.start()
        with suppress(grpc.RpcError):
            for _ in call:
                pass
        late.cancel()

    def _messages(self) -> Iterator[bytes]:
        try:
            yield self._state.opening().SerializeToString()
            while self._may_send() and (request := self._state.next_request()) is not None:
                yield request.SerializeToString()
        except Exception as error:  # of the items; raised where the answers are read
            self._error = error

    def _may_send(self) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopped or (self._started and not self._state.window_is_full)
            )
            return not self._stopped


async def import_items_async(
    state: Import,
    open_stream: Callable[[], Any],
    translate: Callable[[grpc.RpcError], CirError],
    on_progress: OnProgress,
    retry_seconds: float,
) -> Imported:
    """Do as `import_items` on an event loop; items are read on threads."""
    patience = _Patience(state, retry_seconds)
    while True:
        try:
            await _stream(state, open_stream(), on_progress)
            return state.progress()
        except grpc.RpcError as error:
            wait = patience.wait_after(translate(error))
        await asyncio.sleep(wait)


async def _stream(state: Import, call: Any, on_progress: OnProgress) -> None:
    answered = asyncio.Event()
    sending: asyncio.Task[None] | None = None
    try:
        await call.write(state.opening().SerializeToString())
        while (content := await next_answer(call, sending)) is not grpc.aio.EOF:
            answer = catalog_pb2.ImportItemsResponse.FromString(content)
            if sending is None:
                try:
                    await asyncio.to_thread(state.start, answer)
                except CirError:
                    await _end(call)
                    raise
                sending = asyncio.create_task(_send(state, call, answered))
            else:
                state.take(answer)
            on_progress(state.progress())
            answered.set()
        if sending is not None:
            await sending
    finally:
        if sending is not None:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        call.cancel()


async def _end(call: Any) -> None:
    """End a stream in order, so that the service has let go of the version when this returns."""
    with suppress(grpc.RpcError, asyncio.InvalidStateError, TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass


async def next_answer(call: Any, sending: asyncio.Task[None] | None) -> Any:
    """Return the next answer; raise what kept the items from being sent."""
    reading = asyncio.ensure_future(call.read())
    try:
        if sending is not None:
            # It may have ended before this was called.
            await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not reading.done():
                error = sending.exception()
                # That of the call comes with its status too.
                if error is not None and not isinstance(error, grpc.RpcError | asyncio.InvalidStateError):
                    raise error
        return await reading
    finally:
        reading.cancel()


async def _send(state: Import, call: Any, answered: asyncio.Event) -> None:
    while True:
        while state.window_is_full:
            answered.clear()
            if state.window_is_full:
                await answered.wait()
        request = await asyncio.to_thread(state.next_request)
        if request is None:
            await call.done_writing()
            return
        await call.write(request.SerializeToString())
