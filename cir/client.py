"""The blocking client."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar

import grpc

from cir import create, requests
from cir.channel import TlsFiles, call_timeout, metadata, recipe
from cir.connection import Connection
from cir.errors import CirError, from_rpc_error
from cir.import_stream import import_items
from cir.imports import METHOD, Import, Imported, OnProgress, no_progress
from cir.items import ItemWrite
from cir.models import SearchAnswer
from cir.requests import Call, Page, build_call

P = ParamSpec("P")
Answer = TypeVar("Answer")
Entry = TypeVar("Entry")
Paged = TypeVar("Paged", bound="Page[Any] | SearchAnswer")


class _Method(Generic[P, Answer]):
    """A client method with the arguments and the docstring of the function that builds its call."""

    def __init__(self, build: Callable[P, Any], finish: Callable[[Client, Call[Any]], Answer]) -> None:
        self._build = build
        self._finish = finish

    def __get__(self, client: Client, owner: type[Client] | None = None) -> Callable[P, Answer]:
        @functools.wraps(self._build)
        def method(*args: P.args, **kwargs: P.kwargs) -> Answer:
            return self._finish(client, build_call(self._build, *args, **kwargs))

        return method


def _answer(build: Callable[P, Call[Answer]]) -> _Method[P, Answer]:
    return _Method(build, lambda client, call: client.run(call))


def _pages(build: Callable[P, Call[Paged]]) -> _Method[P, Iterator[Paged]]:
    return _Method(build, lambda client, call: client.run_pages(call))


def _entries(build: Callable[P, Call[Page[Entry]]]) -> _Method[P, Iterator[Entry]]:
    def finish(client: Client, call: Call[Page[Entry]]) -> Iterator[Entry]:
        return (entry for page in client.run_pages(call) for entry in page.entries)

    return _Method(build, finish)


def _listed(build: Callable[P, Call[Page[Entry]]]) -> _Method[P, list[Entry]]:
    def finish(client: Client, call: Call[Page[Entry]]) -> list[Entry]:
        return [entry for page in client.run_pages(call) for entry in page.entries]

    return _Method(build, finish)


class Client:
    """A client of the search service at "host:port"; safe to use from several threads and across forks.

    Args:
        address: "host:port" ("[::1]:50050" with IPv6), "unix:/path", or any gRPC target. Calls are spread
            over all addresses behind a name. They go there directly; `cir.proxy` says how to ask for a proxy.
        timeout: seconds for each call that does not name its own; math.inf sets no limit.
        api_key: sent with each call, where the service asks for one.
        tls: connect with TLS; `TlsFiles()` trusts the usual authorities. Default: no encryption.
        wait_for_ready: while no replica takes calls, as when the only one is being replaced, a call waits
            within its timeout instead of failing at once.

    Nothing is connected before the first call, and each process connects for itself: a client may be built
    before a server forks its workers. Methods raise subclasses of `CirError`.
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
        self._connection = Connection(recipe(address, tls))

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

    def run(self, call: Call[Answer]) -> Answer:
        """Carry a call out.

        Raises:
            CirError: one of its subclasses, by the status of the answer.
        """
        timeout = call.timeout if call.timeout is not None else self.timeout
        limit = call_timeout(timeout)
        request = call.encode()
        try:
            with self._connection.channel() as channel:
                method: Any = channel.unary_unary(call.method)
                content = method(
                    request, timeout=limit, metadata=self._metadata, wait_for_ready=self._wait_for_ready
                )
        except grpc.RpcError as error:
            raise from_rpc_error(error, address=self.address, timeout=timeout) from error
        return call.decode(content)

    def run_pages(self, call: Call[Paged]) -> Iterator[Paged]:
        """Carry a call out page by page, each when it is asked for."""
        while True:
            page = self.run(call)
            yield page
            if not page.next_page_token:
                return
            call = call.next_page(page.next_page_token)

    def import_items(
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
        """Write items into a version that is being built (`create_version`); they are read once, in order.

        A stream that breaks is opened again for `retry_seconds` after the last item that got done, and a
        program that is started again goes on where it was when it gives the same `token` and the same items.
        Items that cannot be read or written fail alone. `on_progress` is called with each answer;
        `batch_items` go into one message. Then comes `finish_version`.

        Raises:
            FailedPrecondition: the version is finished, or of another model.
            InvalidArgument: the token is that of an import of other items.
            Aborted: another import is writing the version.
            CirError: the import cannot go on for another reason; what is done stays done.
        """

        def open_stream(messages: Iterator[bytes]) -> Any:
            method: Any = channel.stream_stream(METHOD)
            return method(messages, metadata=self._metadata, wait_for_ready=self._wait_for_ready)

        state = Import(catalog, version, items, token=token, batch_items=batch_items)
        with self._connection.channel() as channel:
            return import_items(state, open_stream, self._translate, on_progress, retry_seconds)

    def _translate(self, error: grpc.RpcError) -> CirError:
        return from_rpc_error(error, address=self.address, timeout=self.timeout)

    def close(self) -> None:
        """Close the connections; calls under way are cancelled, later ones are refused."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
