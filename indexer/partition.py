"""Partition i of n of a source, by a hash of the id, and a digest that says of which state of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from cir.fields import FieldType
from indexer.items import payload_hash
from indexer.rejects import Reject
from indexer.sources.base import Source, SourceFacts, SourceItem

MAX_PARTITIONS = 10_000
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Partition:
    """Part `number` of `count`, from 1. Every id belongs to exactly one, on every host and in every run."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count <= MAX_PARTITIONS:
            raise ValueError(
                f"partition {self.number}/{self.count} does not exist; expected i/n with 1 <= i <= n <= "
                f"{MAX_PARTITIONS}"
            )

    @classmethod
    def parse(cls, text: str) -> Partition:
        """Read "i/n".

        Raises:
            ValueError: another text.
        """
        if (match := re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip(), re.ASCII)) is None:
            raise ValueError(f"partition {text!r} cannot be read; expected i/n, such as 1/4")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def owns(self, item_id: str) -> bool:
        """Return whether an item belongs here."""
        return number_of(item_id, self.count) == self.number


def number_of(item_id: str, count: int) -> int:
    """The number, from 1, of the partition of `count` that an item belongs to."""
    digest = blake2b(item_id.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % count + 1


class SourceDigest:
    """A digest of everything that a source says about its items; their order does not matter.

    Of images it holds where they are, not their bytes. `found` counts what was added.
    """

    def __init__(self, schema: Mapping[str, FieldType]) -> None:
        self.found = 0
        kinds = "\n".join(f"{name}\t{kind}" for name, kind in sorted(schema.items()))
        self._sum = _number("schema", kinds)

    def add(self, item: SourceItem | Reject) -> None:
        """Count an item in."""
        self.found += 1
        said = item.reason if isinstance(item, Reject) else payload_hash(item.payload, item.image)
        self._sum = (self._sum + _number(item.id, said)) % (1 << 8 * _DIGEST_BYTES)

    @property
    def text(self) -> str:
        """Hexadecimal digits."""
        return f"{self._sum:0{2 * _DIGEST_BYTES}x}"


class PartitionSource(Source):
    """The items of `source` that belong to `partition`; `on_id` hears of each.

    `digest` is of all items that the last `items()` went through, those of other partitions too.
    """

    def __init__(self, source: Source, partition: Partition, on_id: Callable[[str], None]) -> None:
        self.name = source.name
        self.beside = source.beside
        self.digest = SourceDigest({})
        self._source = source
        self._partition = partition
        self._on_id = on_id
        self._schema: Mapping[str, FieldType] = {}

    def survey(self, columns: Sequence[str] = ()) -> SourceFacts:
        """The facts of the whole source.

        Raises:
            SourceError: the source cannot be used.
        """
        facts = self._source.survey(columns)
        self._schema = facts.schema
        return facts

    def items(self) -> Iterator[SourceItem | Reject]:
        """The partition's items, in the order of the source.

        Raises:
            SourceError: the source cannot be used.
        """
        self.digest = digest = SourceDigest(self._schema)
        for item in self._source.items():
            digest.add(item)
            if self._partition.owns(item.id):
                self._on_id(item.id)
                yield item


def _number(name: str, said: str) -> int:
    text = f"{len(name)}\n{name}{said}".encode(errors="surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=_DIGEST_BYTES).digest())
