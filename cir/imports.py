"""An import of items as a client sees it: what to send next, what is done, what to send again. No I/O.

Both clients carry it out: they open a stream, send what `next_request` gives while at most `WINDOW` messages
are not answered yet, and open another stream when one breaks. Items are read once, from any iterable.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc

from cir.channel import MAX_MESSAGE_BYTES
from cir.errors import CirError, InvalidArgument, Overloaded
from cir.items import ItemWrite
from cir.limits import MAX_ITEM_ID_BYTES, MAX_PAYLOAD_BYTES, MAX_PAYLOAD_VALUES
from cir.models import ItemError, read_item_error, version_name
from cir.retry import BUSY_OR_AWAY
from cir.search.v1 import catalog_pb2

METHOD = "/cir.search.v1.CatalogService/ImportItems"
#: Messages that are sent before the first of them is answered.
WINDOW = 8
# Bytes of a message, unless a single item has more.
_BATCH_BYTES = 4 * 1024 * 1024
# The same besides images and features. A service takes 100,000 fields and elements in a message, each of
# which has two bytes or more.
_BATCH_FACTS = 200_000
# What no item has that a service takes, by the limits of payloads, ids and locations.
_MAX_FACTS = 2 * MAX_PAYLOAD_BYTES
# A stream that broke, was put off, or met another one of its version. gRPC makes UNKNOWN of some breaks.
_RESUMED = BUSY_OR_AWAY | {grpc.StatusCode.ABORTED, grpc.StatusCode.UNKNOWN}


@dataclass(frozen=True, slots=True)
class Imported:
    """Progress of an import: items done, how many of them were written, and why the others were not.

    `written` counts ids: an item whose id came before is one of `replaced`, whose place it takes.

    The service remembers a bounded number of errors, so that `errors` may be fewer than `rejected` where an
    import was resumed.
    """

    done: int
    written: int
    rejected: int
    errors: tuple[ItemError, ...]
    token: str
    replaced: int = 0


class _ReadAhead:
    """Items in order, with what makes their messages: on threads ahead of time where there are several."""

    def __init__(self, items: Iterator[ItemWrite], threads: int) -> None:
        self._items = items
        self._ahead: deque[tuple[ItemWrite, Callable[[], catalog_pb2.ItemWrite]]] = deque()
        self._executor = ThreadPoolExecutor(threads, "cir-upload") if threads > 1 else None
        self._room = 2 * threads if threads > 1 else 1
        # Raised by the items where they are taken ahead; its turn comes after those before it.
        self._error: Exception | None = None

    def next(self) -> tuple[ItemWrite, Callable[[], catalog_pb2.ItemWrite]] | None:
        """Return the next item and a function that returns its message; None when there are no more."""
        while len(self._ahead) < self._room and self._error is None:
            try:
                item = next(self._items, None)
            except Exception as error:
                self._error = error
                break
            if item is None:
                break
            message = item.message
            if self._executor is not None:
                message = self._executor.submit(message).result
            self._ahead.append((item, message))
        if self._ahead:
            return self._ahead.popleft()
        if self._error is not None:
            raise self._error
        return None

    def skip(self) -> ItemWrite | None:
        """Return the next item without reading its image."""
        return self._ahead.popleft()[0] if self._ahead else next(self._items, None)

    def close(self) -> None:
        """End the threads; what they are at is not waited for."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)


class Import:
    """The state of an import over all its streams."""

    def __init__(
        self,
        catalog: str,
        version: str,
        items: Iterable[ItemWrite],
        *,
        token: str,
        batch_size: int,
        parallel: int,
    ) -> None:
        for name, number in (("batch_size", batch_size), ("parallel", parallel)):
            if number < 1:
                raise InvalidArgument(f"{name} is {number}; expected 1 or more", field=name)
        self._parent = version_name(catalog, version)
        self._items = _ReadAhead(iter(items), parallel)
        self._batch_size = batch_size
        self.token = token or secrets.token_hex(16)
        # Items taken from `_items`, and those that came along without a place in a message.
        self._taken = 0
        self._left: deque[tuple[catalog_pb2.ItemWrite, int, int]] = deque()
        self._unanswered: deque[tuple[int, catalog_pb2.ImportItemsRequest]] = deque()
        self._to_send: deque[catalog_pb2.ImportItemsRequest] = deque()
        self._errors: dict[int, ItemError] = {}
        self._own_errors: dict[int, ItemError] = {}
        self._last = catalog_pb2.ImportItemsResponse()
        # Messages are made on one thread while answers are taken on another.
        self._lock = threading.RLock()

    def opening(self) -> catalog_pb2.ImportItemsRequest:
        """Return the first message of a stream; `start` takes its answer."""
        return catalog_pb2.ImportItemsRequest(
            parent=self._parent,
            token=self.token,
            first_index=self._last.next_index,
            known_index=self._last.next_index,
        )

    def start(self, answer: catalog_pb2.ImportItemsResponse) -> None:
        """Go on where the service is, which may be further than its last answer.

        Raises:
            InvalidArgument: the token is that of an import of other items.
        """
        with self._lock:
            if answer.next_index > self._taken:
                self._skip(answer)
            self.take(answer)
            self._to_send = deque(request for _, request in self._unanswered)

    def next_request(self) -> catalog_pb2.ImportItemsRequest | None:
        """Return the next message, None when all items are sent; reads images, so it may block."""
        with self._lock:
            return self._next_request()

    @property
    def window_is_full(self) -> bool:
        """Return whether an answer must come before more is sent."""
        return len(self._unanswered) - len(self._to_send) >= WINDOW

    def take(self, answer: catalog_pb2.ImportItemsResponse) -> None:
        """Note what an answer says is done."""
        with self._lock:
            for error in answer.errors:
                found = read_item_error(error)
                self._errors[error.index] = self._own_errors.get(error.index, found)
            while self._unanswered and self._unanswered[0][0] <= answer.next_index:
                self._unanswered.popleft()
            self._last = answer

    def progress(self) -> Imported:
        """Return how far the import is."""
        last = self._last
        found = tuple(self._errors[index] for index in sorted(self._errors))
        return Imported(last.next_index, last.written, last.rejected, found, self.token, last.replaced)

    def close(self) -> None:
        """End the threads that read images."""
        self._items.close()

    def _next_request(self) -> catalog_pb2.ImportItemsRequest | None:
        if self._to_send:
            return self._to_send.popleft()
        items: list[catalog_pb2.ItemWrite] = []
        size = facts = 0
        first = self._taken - len(self._left)
        while len(items) < self._batch_size and (item := self._next_item()) is not None:
            write, item_size, item_facts = item
            size += item_size
            facts += item_facts
            if items and (size > _BATCH_BYTES or facts > _BATCH_FACTS):
                self._left.appendleft(item)
                break
            items.append(write)
        if not items:
            return None
        request = catalog_pb2.ImportItemsRequest(first_index=first, items=items)
        self._unanswered.append((first + len(items), request))
        return request

    def _next_item(self) -> tuple[catalog_pb2.ItemWrite, int, int] | None:
        """Return an item with its bytes, and those besides image and features: taking them costs a copy."""
        if self._left:
            return self._left.popleft()
        found = self._items.next()
        if found is None:
            return None
        item, message = found
        index = self._taken
        self._taken += 1
        try:
            write = message()
            size = write.ByteSize()
            facts = size - len(write.content) - len(write.item.features.data)
            if problem := _size_problem(write, size, facts):
                raise InvalidArgument(problem, reason="OUT_OF_RANGE")
        except InvalidArgument as error:
            # It keeps its place, where the service refuses it; the reason is known here.
            self._own_errors[index] = ItemError(index, item.id, error.code, error.reason, error.message)
            write = catalog_pb2.ItemWrite(item=catalog_pb2.Item(id=_sent_id(item.id)))
            size = facts = write.ByteSize()
        return write, size, facts

    def _skip(self, answer: catalog_pb2.ImportItemsResponse) -> None:
        last: ItemWrite | None = None
        while self._taken < answer.next_index:
            last = self._items.skip()
            if last is None:
                raise InvalidArgument(
                    f"{answer.next_index} items are done by this token, but there are {self._taken}; give "
                    "each import a token of its own",
                    reason="FIELD_INVALID",
                    field="token",
                )
            self._taken += 1
        if last is not None and _sent_id(last.id)[:MAX_ITEM_ID_BYTES] != answer.last_item_id:
            raise InvalidArgument(
                f"item {answer.next_index - 1} is {last.id!r:.200}, but the import with this token has "
                f"{answer.last_item_id!r:.200} there; give each import a token of its own",
                reason="FIELD_INVALID",
                field="token",
            )


def _sent_id(item_id: object) -> str:
    """Return an id as it is sent where it may be none: Unicode, and no longer than what is answered of it."""
    return str(item_id)[: 2 * MAX_ITEM_ID_BYTES].encode(errors="replace").decode()


def _size_problem(write: catalog_pb2.ItemWrite, size: int, facts: int) -> str:
    """Return what keeps an item from being sent, or ""; `facts` are its bytes besides image and features."""
    if size + 64 > MAX_MESSAGE_BYTES:
        return f"the item has {size} bytes, a message at most {MAX_MESSAGE_BYTES}; send a smaller image"
    if facts > _MAX_FACTS:
        return f"the item has {facts} bytes besides image and features; a payload has at most 1 MiB as JSON"
    if facts <= _BATCH_FACTS:
        return ""  # two bytes or more are a value, so there are no more than are taken
    values = sum(1 + len(value.list_value.values) for value in write.item.payload.fields.values())
    if values > MAX_PAYLOAD_VALUES:
        return (
            f"the payload has {values} fields and elements of lists, at most {MAX_PAYLOAD_VALUES} are allowed"
        )
    return ""


OnProgress = Callable[[Imported], None]


def no_progress(_: Imported) -> None:
    """Show no progress."""


def may_resume(error: CirError) -> bool:
    """Return whether a stream that ended so is worth another one."""
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return isinstance(error, Overloaded)
    return error.code in _RESUMED and not (error.code is grpc.StatusCode.UNKNOWN and error.reason)
