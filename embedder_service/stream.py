"""A few requests of a stream at a time: reading ahead is bounded, answers come as they are ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

Request = TypeVar("Request")
Response = TypeVar("Response")


async def in_flight(
    requests: AsyncIterator[Request], answer: Callable[[Request], Awaitable[Response]], *, limit: int
) -> AsyncGenerator[Response, None]:
    """Yield the answer to each request, at most `limit` being worked on.

    The next request is read only when there is room for it, so flow control holds a fast sender. An
    exception of `answer` ends the stream. Whatever ends it cancels the work that is under way.
    """
    source = aiter(requests)
    working: set[asyncio.Task[Response]] = set()
    reading: asyncio.Task[Request | None] | None = None
    ended = False
    try:
        while True:
            if reading is None and not ended and len(working) < limit:
                reading = asyncio.create_task(_next(source))
            waited_for: set[asyncio.Task[Any]] = {*working} if reading is None else {*working, reading}
            if not waited_for:
                return
            done, _ = await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
            if reading is not None and reading in done:
                request = reading.result()
                reading = None
                if request is None:
                    ended = True
                else:
                    working.add(asyncio.create_task(_run(answer, request)))
            for finished in working & done:
                working.discard(finished)
                yield finished.result()
    finally:
        left: list[asyncio.Task[Any]] = [*working] if reading is None else [*working, reading]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _next(source: AsyncIterator[Request]) -> Request | None:
    return await anext(source, None)


async def _run(answer: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
    return await answer(request)
