"""Where items come from: the contract of every source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from indexer.items import Reject, SourceItem
from vector_store.types import FieldType


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is known before the first picture is read: how many items come, and what their payload is.

    `notes` are remarks for a person, such as a column whose values are of several types.
    """

    total: int
    schema: Mapping[str, FieldType] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Source(ABC):
    """Items in an order that is the same in every run over the same data. All methods block."""

    #: What the source is called in messages.
    name: str
    #: Where rejects go unless the options say otherwise.
    rejects_path: Path

    @abstractmethod
    def survey(self) -> SourceFacts:
        """Look over everything but the pictures once. Raises `SourceError` when the source cannot be used."""

    @abstractmethod
    def items(self) -> Iterator[SourceItem | Reject]:
        """Every item once; those that cannot be read at all come as rejects. Raises `SourceError`."""
