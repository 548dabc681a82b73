"""The asyncio client: the same methods, to be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import grpc

from cir import feature_calls, requests
from cir.async_client_methods import AsyncClientMethods
from cir.channel import TlsFiles, call_timeout, metadata
from cir.connection import AsyncConnection, connection_to
from cir.errors import CirError, from_rpc_error
from cir.import_stream import import_items_async
from cir.imports import METHOD, Import, Imported, OnProgress, no_progress
from cir.items import ItemWrite
from cir.models import SearchAnswer
from cir.requests import Call, Page, build_call

P = ParamSpec("P")
Answer = TypeVar("Answer")
Paged = TypeVar("Paged", bound="Page[Any] | SearchAnswer")
# Builders of calls that may read image files or encode images.
_SLOW_TO_BUILD = frozenset(
    {requests.search, requests.upsert, feature_calls.embed_images, feature_calls.embed_queries}
)


class AsyncClient(AsyncClientMethods):
    """A client of the search service at "host:port" for asyncio. See `Client` for the arguments.

    It may be built anywhere, such as in a module that a server imports before its event loop runs, and used
    in any loop: each has connections of its own.
    """

    def __init__(
        self,
        address: str,
        *,
        embedder: str = "",
        combiner: str = "",
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
        self._connections = {"search": AsyncConnection(address, tls)}
        for service, at in (("embedder", embedder), ("combiner", combiner)):
            if at:
                self._connections[service] = AsyncConnection(at, tls)

    async def build(
        self, build: Callable[P, Call[Answer]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Call[Answer]:
        """Build a call, on a thread where that may read or encode images: it would hold up the event loop."""
        if build in _SLOW_TO_BUILD:
            return await asyncio.to_thread(lambda: build_call(build, *args, **kwargs))
        return build_call(build, *args, **kwargs)

    async def run(self, call: Call[Answer]) -> Answer:
        """Carry a call out.

        Raises:
            CirError: one of its subclasses, by the status of the answer.
        """
        timeout = call.timeout if call.timeout is not None else self.timeout
        limit = call_timeout(timeout)
        connection = connection_to(self._connections, call.service)
        request = call.encode()
        method: Any = connection.channel().unary_unary(call.method)
        try:
            content = await method(
                request, timeout=limit, metadata=self._metadata, wait_for_ready=self._wait_for_ready
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error, address=connection.address, timeout=timeout) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if connection.closed and not (task and task.cancelling()):
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
            method: Any = self._connections["search"].channel().stream_stream(METHOD)
            return method(metadata=self._metadata, wait_for_ready=self._wait_for_ready)

        state = Import(catalog, version, items, token=token, batch_items=batch_items)
        return await import_items_async(state, open_stream, self._translate, on_progress, retry_seconds)

    def _translate(self, error: grpc.RpcError) -> CirError:
        return from_rpc_error(error, address=self.address, timeout=self.timeout)

    async def close(self) -> None:
        """Close the connections; calls under way are cancelled, later ones are refused."""
        for connection in self._connections.values():
            await connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
