"""The asyncio client: the same methods, to be awaited."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar

import grpc

from cir import create, requests
from cir.channel import TlsFiles, call_timeout, metadata, recipe
from cir.connection import AsyncConnection
from cir.errors import CirError, from_rpc_error
from cir.import_stream import import_items_async
from cir.imports import METHOD, Import, Imported, OnProgress, no_progress
from cir.items import ItemWrite
from cir.models import SearchAnswer
from cir.requests import Call, Page, build_call

P = ParamSpec("P")
Answer = TypeVar("Answer")
Entry = TypeVar("Entry")
Paged = TypeVar("Paged", bound="Page[Any] | SearchAnswer")
# Calls that may read image files or encode images: building them on the event loop would hold it up.
_SLOW_TO_BUILD = frozenset({requests.search, requests.upsert})


class _Method(Generic[P, Answer]):
    """A client method with the arguments and the docstring of the function that builds its call."""

    def __init__(
        self, build: Callable[P, Any], finish: Callable[[AsyncClient, Awaitable[Call[Any]]], Answer]
    ) -> None:
        self._build = build
        self._finish = finish

    def __get__(self, client: AsyncClient, owner: type[AsyncClient] | None = None) -> Callable[P, Answer]:
        @functools.wraps(self._build)
        def method(*args: P.args, **kwargs: P.kwargs) -> Answer:
            return self._finish(client, self._call(*args, **kwargs))

        return method

    async def _call(self, *args: P.args, **kwargs: P.kwargs) -> Call[Any]:
        if self._build in _SLOW_TO_BUILD:
            return await asyncio.to_thread(lambda: build_call(self._build, *args, **kwargs))
        call: Call[Any] = build_call(self._build, *args, **kwargs)
        return call


def _answer(build: Callable[P, Call[Answer]]) -> _Method[P, Awaitable[Answer]]:
    async def finish(client: AsyncClient, call: Awaitable[Call[Answer]]) -> Answer:
        return await client.run(await call)

    return _Method(build, finish)


def _pages(build: Callable[P, Call[Paged]]) -> _Method[P, AsyncIterator[Paged]]:
    async def finish(client: AsyncClient, call: Awaitable[Call[Paged]]) -> AsyncIterator[Paged]:
        async for page in client.run_pages(await call):
            yield page

    return _Method(build, finish)


def _entries(build: Callable[P, Call[Page[Entry]]]) -> _Method[P, AsyncIterator[Entry]]:
    async def finish(client: AsyncClient, call: Awaitable[Call[Page[Entry]]]) -> AsyncIterator[Entry]:
        async for page in client.run_pages(await call):
            for entry in page.entries:
                yield entry

    return _Method(build, finish)


def _listed(build: Callable[P, Call[Page[Entry]]]) -> _Method[P, Awaitable[list[Entry]]]:
    async def finish(client: AsyncClient, call: Awaitable[Call[Page[Entry]]]) -> list[Entry]:
        return [entry async for page in client.run_pages(await call) for entry in page.entries]

    return _Method(build, finish)


class AsyncClient:
    """A client of the search service at "host:port" for asyncio. See `Client` for the arguments.

    It may be built anywhere, such as in a module that a server imports before its event loop runs, and used
    in any loop: each has connections of its own.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 30.0,
        api_key: str = "",
        tls: TlsFiles | None = None,
        wait_for_ready: bool = False,
    ) -> None:
        self.address = address
        call_timeout(timeout)
        self.timeout = timeout
        self._metadata = metadata(api_key)
        self._wait_for_ready = wait_for_ready
        self._connection = AsyncConnection(recipe(address, tls))

    search = _answer(requests.search)
    search_pages = _pages(requests.search)
    batch_search = _answer(requests.batch_search)
    info = _answer(requests.info)
    catalogs = _listed(requests.list_catalogs)
    catalog = _answer(requests.catalog)
    versions = _listed(requests.list_versions)
    create_catalog = _answer(create.create_catalog)
    create_version = _answer(create.create_version)
    finish_version = _answer(create.finish_version)
    abort_version = _answer(create.abort_version)
    add_fields = _answer(create.add_fields)
    publish = _answer(requests.publish)
    rollback = _answer(requests.rollback)
    delete_version = _answer(requests.delete_version)
    delete_catalog = _answer(requests.delete_catalog)
    item = _answer(requests.item)
    items = _answer(requests.items)
    list_items = _answer(requests.list_items)
    all_items = _entries(requests.list_items)
    facets = _answer(requests.facets)
    upsert = _answer(requests.upsert)
    update = _answer(requests.update)
    delete = _answer(requests.delete)
    delete_where = _answer(requests.delete_where)

    async def run(self, call: Call[Answer]) -> Answer:
        """Carry a call out.

        Raises:
            CirError: one of its subclasses, by the status of the answer.
        """
        timeout = call.timeout if call.timeout is not None else self.timeout
        limit = call_timeout(timeout)
        request = call.encode()
        method: Any = self._connection.channel().unary_unary(call.method)
        try:
            content = await method(
                request, timeout=limit, metadata=self._metadata, wait_for_ready=self._wait_for_ready
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error, address=self.address, timeout=timeout) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._connection.closed and not (task and task.cancelling()):
                # Nobody cancelled the caller: `close` ended the call.
                raise CirError(
                    "the client was closed during the call", code=grpc.StatusCode.CANCELLED
                ) from None
            raise
        return call.decode(content)

    async def run_pages(self, call: Call[Paged]) -> AsyncIterator[Paged]:
        """Carry a call out page by page, each when it is asked for."""
        while True:
            page = await self.run(call)
            yield page
            if not page.next_page_token:
                return
            call = call.next_page(page.next_page_token)

    async def import_items(
        self,
        catalog: str,
        version: str,
        items: Iterable[ItemWrite],
        *,
        token: str = "",
        batch_items: int = 64,
        on_progress: OnProgress = no_progress,
        retry_seconds: float = 60.0,
    ) -> Imported:
        """Do as `Client.import_items`; items are taken and images read on threads."""

        def open_stream() -> Any:
            method: Any = self._connection.channel().stream_stream(METHOD)
            return method(metadata=self._metadata, wait_for_ready=self._wait_for_ready)

        state = Import(catalog, version, items, token=token, batch_items=batch_items)
        return await import_items_async(state, open_stream, self._translate, on_progress, retry_seconds)

    def _translate(self, error: grpc.RpcError) -> CirError:
        return from_rpc_error(error, address=self.address, timeout=self.timeout)

    async def close(self) -> None:
        """Close the connections; calls under way are cancelled, later ones are refused."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
