"""Combiners that `cir adapt` made for a catalog: searches there that name none are answered by its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from cir.combiner.v1 import combiner_pb2 as pb
from cir.composers import ADAPTED_TO, CHECKPOINT_PREFIX
from search_service.tasks import Tasks
from service_runtime.errors import ServiceError

# A list of this age is asked for again; searches wait this long for it, and then go by the old one.
_SECONDS = 10.0
_PATIENCE_SECONDS = 0.25
# The first search waits this long for a list; a combiner service that is away must not hold it up.
_TIMEOUT_SECONDS = 1.0


class ListsCombiners(Protocol):
    """A source of the combiners that can be used."""

    async def usable(self, *, timeout: float) -> list[pb.Combiner]:
        """Return them. Raises `ServiceError` where they cannot be had."""
        ...


def catalog_of(combiner: pb.Combiner) -> str:
    """Return the catalog that a combiner was made for; "" where it is for all."""
    catalog = combiner.metadata.get(ADAPTED_TO, "")
    return catalog if combiner.name == f"{CHECKPOINT_PREFIX}{catalog}" else ""


class AdaptedCombiners:
    """The combiner of each catalog and model that has one. For one event loop."""

    def __init__(self, source: ListsCombiners, clock: Callable[[], float] = time.monotonic) -> None:
        self._source, self._clock = source, clock
        self._tasks = Tasks()
        self._asking: asyncio.Task[None] | None = None
        self._asked = -_SECONDS
        self._known: Mapping[tuple[str, str], str] | None = None

    async def of(self, catalog: str, fingerprint: str) -> str:
        """Return the name of the combiner made for a catalog and this model; "" where there is none.

        While the combiner service cannot be reached, the last list that it gave holds.
        """
        if self._asking is None and self._clock() - self._asked >= _SECONDS:
            self._asking = self._tasks.spawn(self._ask())
        if self._asking is not None:
            await asyncio.wait([self._asking], timeout=None if self._known is None else _PATIENCE_SECONDS)
        return (self._known or {}).get((catalog, fingerprint), "")

    def forget(self, name: str) -> None:
        """Leave out a combiner that is gone, until the list is asked for again."""
        self._known = {key: known for key, known in (self._known or {}).items() if known != name}

    async def close(self) -> None:
        """End what is under way."""
        await self._tasks.close()

    async def _ask(self) -> None:
        try:
            combiners = await self._source.usable(timeout=_TIMEOUT_SECONDS)
        except ServiceError:
            self._known = self._known or {}
        else:
            self._known = {
                (catalog, each.model_fingerprint): each.name
                for each in combiners
                if (catalog := catalog_of(each))
            }
        finally:
            self._asked, self._asking = self._clock(), None
