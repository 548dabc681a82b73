"""An import as far as it is done: its messages, parsed, and the note that the store keeps of it. Pure."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from cir.common.v1 import errors_pb2 as errors
from cir.fields import FieldType
from cir.search.v1 import catalog_pb2 as pb
from search_service.catalog_requests import ItemWrite, parse_writes, shown_id
from search_service.names import parse_version
from search_service.settings import SearchSettings
from search_service.store import to_service_error
from service_runtime.errors import ServiceError
from vector_store.errors import InvalidQueryError
from vector_store.validation import check_payload

#: Imports that a version remembers.
MAX_TOKENS = 100
# Items of an import: their places in errors have 32 bits.
_MAX_ITEMS = 2**32 - 1
# Bytes of the errors that are remembered, of which each also has a few numbers.
_MAX_ERROR_BYTES = 64 * 1024
_ERROR_BYTES = 64
_NOTE = "import."
_TOKEN = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class Opening:
    """Content of the first message of a stream: a version, and the import that goes on in it."""

    catalog: str
    version: str
    token: str
    known_index: int

    @property
    def note_key(self) -> str:
        """Key of the import's note."""
        return f"{_NOTE}{self.token}"


@dataclass(frozen=True, slots=True)
class Batch:
    """Items of one message that are not done yet: those to write, and the errors of the others by place."""

    end: int
    last_item_id: str
    writes: Sequence[ItemWrite]
    failed: dict[int, errors.ItemError]
    size: int


def parse_opening(message: pb.ImportItemsRequest) -> Opening:
    """Parse the first message of a stream; its items are parsed by `parse_batch`.

    Raises:
        ServiceError: Version or token cannot be used.
    """
    catalog, version = parse_version(message.parent, field="parent")
    if not message.token:
        raise ServiceError(
            errors.FIELD_REQUIRED, "token is empty; name the import, so that it can be resumed", field="token"
        )
    if not _TOKEN.fullmatch(message.token):
        raise ServiceError(
            errors.FIELD_INVALID, "token has 1 to 128 letters, digits, '-', '_' and '.'", field="token"
        )
    return Opening(catalog, version, message.token, message.known_index)


def check_same_import(message: pb.ImportItemsRequest, opening: Opening) -> None:
    """Check that a message belongs to the import that its stream began with.

    Raises:
        ServiceError: FIELD_INVALID.
    """
    name = f"catalogs/{opening.catalog}/versions/{opening.version}"
    for part, given, begun in (("parent", message.parent, name), ("token", message.token, opening.token)):
        if given not in ("", begun):
            raise ServiceError(
                errors.FIELD_INVALID,
                f"{part} is not that of the stream's first message; open a stream for each import",
                field=part,
            )


def parse_batch(
    message: pb.ImportItemsRequest,
    next_index: int,
    last_item_id: str,
    schema: Mapping[str, FieldType],
    settings: SearchSettings,
) -> Batch | None:
    """Parse the items of a message from place `next_index` on; None where all of them are done.

    `last_item_id` is the id of the item before that place, which an item of this import must have. Payloads
    that contradict `schema` are among the errors.

    Raises:
        ServiceError: OUT_OF_RANGE or TOO_MANY_ITEMS for the message; FIELD_INVALID for the token of another
            import.
    """
    first, count = message.first_index, len(message.items)
    if count > settings.max_write_items:
        raise ServiceError(
            errors.TOO_MANY_ITEMS,
            f"items has {count} entries; a message has at most {settings.max_write_items}",
            field="items",
        )
    if not count:
        return None
    if first > next_index:
        raise ServiceError(
            errors.OUT_OF_RANGE,
            f"first_index is {first}, but the next item is {next_index}: go on there, no item is left out",
            field="first_index",
        )
    if first + count > _MAX_ITEMS:
        raise ServiceError(
            errors.OUT_OF_RANGE, f"an import has at most {_MAX_ITEMS} items", field="first_index"
        )
    done = next_index - first
    if 0 < done <= count and shown_id(message.items[done - 1].item) != last_item_id:
        raise ServiceError(
            errors.FIELD_INVALID,
            f"item {next_index - 1} is another one than the import with this token has at that place; give "
            "each import a token of its own",
            field="token",
        )
    if done >= count:
        return None
    items = message.items[done:]
    writes, failed = parse_writes(items, settings, first=next_index)
    fitting = []
    for write in writes:
        try:
            check_payload(write.payload, schema, item=write.item_id)
        except InvalidQueryError as error:
            failed[write.index] = to_service_error(error).item_error(write.index, item_id=write.item_id)
        else:
            fitting.append(write)
    return Batch(first + count, shown_id(items[-1].item), fitting, failed, message.ByteSize())


@dataclass(slots=True)
class ImportProgress:
    """Progress of an import. `kept` are its newest errors, by ascending place.

    `written` counts ids that the version had not before, `replaced` the items that took the place of another,
    of which `repeated_id` is one. `unnoted` are items that the store holds and no note counts, because a
    stream broke in between: they are sent again.
    """

    next_index: int = 0
    written: int = 0
    rejected: int = 0
    replaced: int = 0
    repeated_id: str = ""
    last_item_id: str = ""
    kept: deque[errors.ItemError] = field(default_factory=deque)
    unnoted: int = field(default=0, compare=False)

    @classmethod
    def read(cls, note: str) -> ImportProgress:
        """Read what `note` wrote; an import begins with an empty one."""
        if not note:
            return cls()
        document = json.loads(note)
        found = (
            errors.ItemError(index=index, code=code, reason=reason, message=message, item_id=item_id)
            for index, code, reason, message, item_id in document["errors"]
        )
        return cls(
            document["next"],
            document["written"],
            document["rejected"],
            document["replaced"],
            document["repeated"],
            document["last"],
            deque(found),
        )

    def note(self) -> str:
        """Return the text that the store keeps."""
        kept = [
            [error.index, error.code, int(error.reason), error.message, error.item_id] for error in self.kept
        ]
        return json.dumps(
            {
                "next": self.next_index,
                "written": self.written,
                "rejected": self.rejected,
                "replaced": self.replaced,
                "repeated": self.repeated_id,
                "last": self.last_item_id,
                "errors": kept,
            },
            ensure_ascii=False,
        )

    def advance(self, batch: Batch, stored: Sequence[str], present: Set[str]) -> list[errors.ItemError]:
        """Count a batch that is done; returns its errors by ascending place.

        `stored` are the ids of its items, of which the version had those in `present` before.
        """
        failed = [batch.failed[index] for index in sorted(batch.failed)]
        self.rejected += len(failed)
        counted: set[str] = set()
        for item_id in stored:
            before = item_id in counted
            counted.add(item_id)
            if not before and item_id in present and self.unnoted:
                self.unnoted -= 1
            elif before or item_id in present:
                self.replaced += 1
                self.repeated_id = item_id
                continue
            self.written += 1
        self.next_index, self.last_item_id = batch.end, batch.last_item_id
        self.kept.extend(failed)
        left = _MAX_ERROR_BYTES - sum(map(_size, self.kept))
        while left < 0:
            left += _size(self.kept.popleft())
        return failed

    def message(self, failed: Sequence[errors.ItemError]) -> pb.ImportItemsResponse:
        """Return an answer with some errors."""
        return pb.ImportItemsResponse(
            next_index=self.next_index,
            written=self.written,
            rejected=self.rejected,
            replaced=self.replaced,
            errors=failed,
            last_item_id=self.last_item_id,
        )


def imports_of(notes: Mapping[str, str]) -> dict[str, ImportProgress]:
    """Return the progress of each import of a version by the key of its note."""
    return {key: ImportProgress.read(note) for key, note in notes.items() if key.startswith(_NOTE)}


def _size(error: errors.ItemError) -> int:
    return len(error.message.encode()) + len(error.item_id.encode()) + _ERROR_BYTES
