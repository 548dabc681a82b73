"""The blocking client."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from cir.channel import TlsFiles, call_timeout, metadata
from cir.client_methods import ClientMethods
from cir.connection import Connection, connection_to
from cir.create import IndexSettings
from cir.errors import CirError, from_rpc_error
from cir.import_stream import import_items
from cir.imports import METHOD, Import, Imported, OnProgress, no_progress
from cir.items import ItemWrite
from cir.models import SearchAnswer
from cir.requests import Call, Page
from cir.uploads import Importing, Uploaded, UploadOptions, upload_steps

Answer = TypeVar("Answer")
Paged = TypeVar("Paged", bound="Page[Any] | SearchAnswer")


class Client(ClientMethods):
    """A client of the search service at "host:port"; safe to use from several threads and across forks.

    Args:
        address: "host:port" ("[::1]:50050" with IPv6), "unix:/path", or any gRPC target. Calls are spread
            over all addresses behind a name. They go there directly; `cir.proxy` says how to ask for a proxy.
        embedder, combiner: addresses of these services, for the methods that embed and combine; searches do
        not
            need them.
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
        self._connections = {"search": Connection(address, tls)}
        for service, at in (("embedder", embedder), ("combiner", combiner)):
            if at:
                self._connections[service] = Connection(at, tls)

    def run(self, call: Call[Answer]) -> Answer:
        """Carry a call out.

        Raises:
            CirError: one of its subclasses, by the status of the answer.
        """
        timeout = call.timeout if call.timeout is not None else self.timeout
        limit = call_timeout(timeout)
        connection = connection_to(self._connections, call.service)
        request = call.encode()
        try:
            with connection.channel() as channel:
                method: Any = channel.unary_unary(call.method)
                content = method(
                    request, timeout=limit, metadata=self._metadata, wait_for_ready=self._wait_for_ready
                )
        except grpc.RpcError as error:
            raise from_rpc_error(error, address=connection.address, timeout=timeout) from error
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
        batch_size: int = 64,
        parallel: int = 1,
        on_progress: OnProgress = no_progress,
        retry_seconds: float = 60.0,
    ) -> Imported:
        """Write items into a version that is being built (`create_version`); they are read once, in order.

        A stream that breaks is opened again for `retry_seconds` after the last item that got done, and a
        program that is started again goes on where it was when it gives the same `token` and the same
        items. Items that cannot be read or written fail alone. `on_progress` is called with each answer;
        `batch_size` items go into one message, and `parallel` threads read and encode images ahead. Then
        comes `finish_version`; `upload` does it all.

        Raises:
            FailedPrecondition: the version is finished, or of another model.
            InvalidArgument: the token is that of an import of other items.
            Aborted: another import is writing the version.
            CirError: the import cannot go on for another reason; what is done stays done.
        """

        def open_stream(messages: Iterator[bytes]) -> Any:
            method: Any = channel.stream_stream(METHOD)
            return method(messages, metadata=self._metadata, wait_for_ready=self._wait_for_ready)

        state = Import(catalog, version, items, token=token, batch_size=batch_size, parallel=parallel)
        with closing(state), self._connections["search"].channel() as channel:
            return import_items(state, open_stream, self._translate, on_progress, retry_seconds)

    def upload(
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
        """Make a version of these items (`create_version`, `import_items`, `finish_version`) and publish it.

        The version replaces the published one; a catalog that is not there is made. `schema` and `index`
        are those of `create_version`. `batch_size` items go into one message, and `parallel` threads read
        and encode images ahead. `on_progress` is called with each answer. `resume` is a file that remembers
        the version and how far it is until the upload is done: a program that is started again with the
        same file and the same items goes on where it was. Items that cannot be read or written fail alone;
        above `max_reject_share` nothing is published. Small changes of a catalog that is searched are
        rather `upsert`.

        Raises:
            FailedPrecondition: nothing was written, or too many items were rejected; the version is kept.
            InvalidArgument: the items, or the file, are those of another upload.
            CirError: the upload cannot go on for another reason; what is done stays done.
        """
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
                answer = do(step)
            except CirError as error:
                step = steps.throw(error)
                continue
            try:
                step = steps.send(answer)
            except StopIteration as done:
                uploaded: Uploaded = done.value
                return uploaded

    def _step(
        self, catalog: str, items: Iterable[ItemWrite], step: Call[Any] | Importing, **options: Any
    ) -> Any:
        if isinstance(step, Call):
            return self.run(step)
        return self.import_items(catalog, step.version, items, token=step.token, **options)

    def _translate(self, error: grpc.RpcError) -> CirError:
        return from_rpc_error(error, address=self.address, timeout=self.timeout)

    def close(self) -> None:
        """Close the connections; calls under way are cancelled, later ones are refused."""
        for connection in self._connections.values():
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
