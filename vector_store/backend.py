"""Primitives that an engine implements for one version.

Everything above them (checks, ties, grouping, diversity, decoding) is shared, so that a catalog means
the same on every engine. Arguments are already checked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vector_store.codec import StoredPoints
from vector_store.filters import Filter
from vector_store.types import FacetValue


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """A nearest-neighbour search: `vector` has length one, `limit` is at least 1.

    `members` are the paths of the payload members to read; None reads all that `retrieve` reads.
    """

    vector: NDArray[np.float32]
    limit: int
    ef: int
    exact: bool
    rescore: bool
    oversampling: float
    where: Filter | None
    with_vectors: bool
    members: Sequence[str] | None = None


# Not frozen: making one takes a third of the time, and a query makes hundreds.
@dataclass(slots=True)
class Record:
    """A stored point as read. `vector` is the unit vector, None unless asked for; `id` is the engine's."""

    id: object
    payload: dict[str, Any]
    vector: Sequence[float] | None


@dataclass(slots=True)
class Hit:
    """A record that a search found, with its cosine."""

    record: Record
    score: float


class PointsBackend(ABC):
    """The points of one version on one engine."""

    @abstractmethod
    async def search(self, plan: SearchPlan) -> list[Hit]:
        """The best hits, highest score first; equal scores in any order."""

    @abstractmethod
    async def retrieve(self, ids: Sequence[str], *, with_vectors: bool) -> list[Record]:
        """The points among the engine ids that exist, in any order."""

    @abstractmethod
    async def scroll(
        self, *, limit: int, after: str, where: Filter | None, with_vectors: bool
    ) -> tuple[list[Record], str]:
        """Points from engine id `after` ('' for the first) on, by engine id, and the next page's start."""

    @abstractmethod
    async def count(self, where: Filter | None) -> int:
        """Exactly how many points pass."""

    @abstractmethod
    async def facet(self, field: str, *, limit: int, where: Filter | None) -> list[FacetValue]:
        """Values of a field with exact counts, the most frequent ones, in any order among equals."""

    @abstractmethod
    async def unindexed(self) -> int:
        """Count the points that no index of vectors holds, as far as the engine knows at the moment."""

    @abstractmethod
    async def upsert(self, points: StoredPoints) -> None:
        """Write points, durable and visible on return."""

    @abstractmethod
    async def set_payloads(self, documents: Mapping[str, dict[str, Any]]) -> None:
        """Replace top-level members of stored payloads, by engine id; every id exists."""

    @abstractmethod
    async def delete_where(self, where: Filter) -> None:
        """Remove the points that pass."""

    @abstractmethod
    async def delete(self, ids: Sequence[str]) -> None:
        """Remove points by engine id; unknown ids are ignored."""
