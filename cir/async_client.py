"""The asyncio client: the same methods, to be awaited."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import closing
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import grpc

from cir import feature_calls, requests
from cir.async_client_methods import AsyncClientMethods
from cir.channel import TlsFiles, call_timeout, metadata
from cir.connection import AsyncConnection, connection_to
from cir.create import IndexSettings
from cir.errors import CirError, from_rpc_error
from cir.import_stream import import_items_async
from cir.imports import METHOD, Import, Imported, OnProgress, no_progress
from cir.items import ItemWrite
from cir.models import SearchAnswer
from cir.requests import Call, Page, build_call
from cir.uploads import Importing, Uploaded, UploadOptions, upload_steps

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

    async def _build(
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
        batch_size: int = 64,
        parallel: int = 1,
        on_progress: OnProgress = no_progress,
        retry_seconds: float = 60.0,
    ) -> Imported:
        """Do as `Client.import_items`; items are taken and images read on threads."""

        def open_stream() -> Any:
            method: Any = self._connections["search"].channel().stream_stream(METHOD)
            return method(metadata=self._metadata, wait_for_ready=self._wait_for_ready)

        state = Import(catalog, version, items, token=token, batch_size=batch_size, parallel=parallel)
        with closing(state):
            return await import_items_async(state, open_stream, self._translate, on_progress, retry_seconds)

    async def upload(
        self,
        catalog: str,
        items: Iterable[ItemWrite],
        *,
        schema: Mapping[str, str] | None = None,
        index: IndexSettings | None = None,
        resume: str | os.PathLike[str] | None = None,
        batch_size: int = 64,
        parallel: int = 4,
        on_progress: OnProgress = no_progress,
        publish: bool = True,
        max_reject_share: float = 0.5,
        retry_seconds: float = 60.0,
        finish_timeout: float = 3600.0,
    ) -> Uploaded:
        """Do as `Client.upload`; items are taken and images read on threads."""
        options = UploadOptions(catalog, schema, index, resume, publish, max_reject_share, finish_timeout)
        steps = upload_steps(options, secrets.token_hex(16))
        do = partial(
            self._step,
            catalog,
            items,
            batch_size=batch_size,
            parallel=parallel,
            on_progress=on_progress,
            retry_seconds=retry_seconds,
        )
        step = next(steps)
        while True:
            try:
                answer = await do(step)
            except CirError as error:
                step = steps.throw(error)
                continue
            try:
                step = steps.send(answer)
            except StopIteration as done:
                uploaded: Uploaded = done.value
                return uploaded

    async def _step(
        self, catalog: str, items: Iterable[ItemWrite], step: Call[Any] | Importing, **options: Any
    ) -> Any:
        if isinstance(step, Call):
            return await self.run(step)
        return await self.import_items(catalog, step.version, items, token=step.token, **options)

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
