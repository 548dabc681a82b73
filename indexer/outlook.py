"""A look over the whole source before anything is written: what would change, and is anything different?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from indexer.admission import admit, check_id
from indexer.changes import Change
from indexer.items import KnownItem, Reject, SourceItem
from indexer.ledger import Entry
from indexer.reader import read_image
from indexer.recognise import Recogniser
from indexer.report import Tally
from indexer.source import Source
from vector_store.types import FieldType

_IDS_AT_ONCE = 1000


@dataclass(slots=True)
class Outlook:
    """What a run would do. The tally is whole only when everything was compared (`complete`)."""

    tally: Tally = field(default_factory=Tally)
    complete: bool = True

    @property
    def different(self) -> bool:
        """Whether an item is new, changed, renamed or has another payload."""
        return any(count for change, count in self.tally.changes.items() if change is not Change.UNCHANGED)


def look_over(
    source: Source,
    schema: Mapping[str, FieldType],
    recogniser: Recogniser,
    *,
    max_bytes: int,
    whole: bool,
    on_reject: Callable[[Reject], None],
) -> Outlook:
    """Go through the source once. Blocks.

    Pictures are read where their look does not settle them; unless `whole`, comparing ends with the first
    difference and only ids are taken from there on. Afterwards the ledger has seen every id of the source.
    Raises `SourceError` and `LedgerError`.
    """
    outlook = Outlook()
    recogniser.ledger.start_seeing()

    def comparing() -> Iterator[str]:
        for item in admit(source.items(), schema):
            outlook.tally.found += 1
            if outlook.complete:
                result = _compare(item, recogniser, max_bytes)
                if isinstance(result, Reject):
                    outlook.tally.rejects[result.reason] += 1
                    on_reject(result)
                else:
                    outlook.tally.count([result])
                    outlook.complete = whole or result is Change.UNCHANGED
            if not check_id(item.id):
                yield item.id

    ids = comparing()
    while some := list(islice(ids, _IDS_AT_ONCE)):
        recogniser.ledger.see(some)
    return outlook


def _compare(item: SourceItem | Reject, recogniser: Recogniser, max_bytes: int) -> Change | Reject:
    if isinstance(item, Reject):
        return item
    old = recogniser.row(recogniser.base, item.id)
    if old is not None and old.state == "rejected" and recogniser.looks_like(item, old) is not None:
        return _again(item, old)
    (settled,) = recogniser.before_reading([item])
    if isinstance(settled, KnownItem):
        return settled.change
    if isinstance(settled, Reject):
        return settled
    loaded = read_image(item, max_bytes)
    if isinstance(loaded, Reject):
        return loaded
    if old is not None and old.state == "rejected" and old.content == loaded.stamp.content:
        return _again(item, old)
    (compared,) = recogniser.after_reading([loaded])
    return compared.change


def _again(item: SourceItem, old: Entry) -> Reject:
    return Reject(item.id, item.image, old.reason, old.message, old.size if old.size >= 0 else None)
