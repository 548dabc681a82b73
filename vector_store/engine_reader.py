"""The reader of the contract over any engine: checks, paging, grouping and decoding."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vector_store.catalogs import Quantization, VersionInfo
from vector_store.contract import CatalogReader, SearchOptions
from vector_store.engine_items import EngineItems
from vector_store.errors import InvalidQuery
from vector_store.filter_check import check_facet_field, check_filter, check_group_field
from vector_store.filters import Filter
from vector_store.points import FacetValue, ScoredItem
from vector_store.points_engine import Hit, PointsEngine, SearchPlan
from vector_store.query_window import (
    MAX_DIVERSE,
    MAX_FETCH,
    check_options,
    check_window,
    first_fetch,
    search_ef,
)
from vector_store.ranking import by_score, diversify, group
from vector_store.stored_point import decode_item, unit_vector

# Values of equal count beyond the limit are fetched too, so that which of them are shown is settled here.
_FACET_TIES = 256
_MAX_FACETS = 10_000


async def _nothing() -> None:
    return None


class EngineReader(EngineItems, CatalogReader):
    """Reads one version through `engine`; `before_change` and `on_change` run around each online change."""

    _online = True

    def __init__(
        self,
        info: VersionInfo,
        engine: PointsEngine,
        *,
        before_change: Callable[[], Awaitable[None]] = _nothing,
        on_change: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        super().__init__(info, engine)
        self._before_change = before_change
        self._on_change = on_change

    async def _changing(self) -> None:
        await self._before_change()

    async def _changed(self, items: int) -> None:
        await self._on_change()

    async def query(
        self,
        vector: NDArray[np.float32],
        *,
        limit: int,
        offset: int = 0,
        where: Filter | None = None,
        options: SearchOptions = SearchOptions(),
    ) -> list[ScoredItem]:
        """See `CatalogReader.query`.

        Equal scores are complete and ordered as long as fewer than 16,384 items tie with one place of the
        page; beyond that the engine chooses among the equal ones. Pages of an approximate search agree
        with one another within a power of two of `offset + limit`. `diversity` re-orders, and `group_by`
        thins, the 256 (or 2 to 4 times `offset + limit`) best items; groups look further when these do
        not fill the page.
        """
        schema = self.info.spec.schema
        unit = unit_vector(vector, self.info.spec.dimension)
        window = check_window(limit, offset)
        check_options(options)
        check_filter(where, schema)
        if options.group_by:
            check_group_field(options.group_by, schema)
        if limit == 0:
            return []
        fetch = first_fetch(window, options)
        # Scores of binary vectors count bits; they are no cosines.
        rescore = options.rescore or self.info.spec.index.quantization is Quantization.BINARY
        with_vectors = options.with_features or options.diversity > 0.0
        while True:
            plan = SearchPlan(
                unit,
                fetch,
                ef=search_ef(fetch, options),
                exact=options.exact,
                rescore=rescore,
                oversampling=options.oversampling,
                where=where,
                with_vectors=with_vectors,
            )
            hits = await self._engine.search(plan)
            if options.diversity > 0.0:
                found, enough = await asyncio.to_thread(_arrange, hits, window, options)
            else:
                found, enough = _arrange(hits, window, options)
            if enough or len(hits) < fetch or fetch >= MAX_FETCH:
                return found[offset:window]
            fetch = min(2 * fetch, MAX_FETCH)

    async def unindexed(self) -> int:
        return await self._engine.unindexed()

    async def facet(self, field: str, *, limit: int, where: Filter | None = None) -> list[FacetValue]:
        check_facet_field(field, self.info.spec.schema)
        check_filter(where, self.info.spec.schema)
        if not 1 <= limit <= _MAX_FACETS:
            raise InvalidQuery(f"limit {limit}: expected 1 to {_MAX_FACETS}", field="limit")
        values = await self._engine.facet(field, limit=limit + _FACET_TIES, where=where)
        return sorted(values, key=lambda facet: (-facet.count, facet.value))[:limit]


def _arrange(hits: Sequence[Hit], window: int, options: SearchOptions) -> tuple[list[ScoredItem], bool]:
    """The hits in final order, and whether the first `window` of them are settled."""
    with_features = options.with_features
    ranked = by_score(
        ScoredItem(
            decode_item(hit.record.payload, hit.record.vector if with_features else None),
            min(1.0, max(-1.0, hit.score)),
        )
        for hit in hits
    )
    threshold = options.score_threshold
    chosen = ranked if threshold is None else [s for s in ranked if s.score >= threshold]
    # Everything that passes was fetched when the worst hit fell below the threshold.
    complete = len(chosen) < len(ranked)
    if options.diversity > 0.0:
        head = chosen[:MAX_DIVERSE]
        vectors = {hit.record.payload["id"]: hit.record.vector for hit in hits}
        matrix = np.asarray([vectors[s.item.id] for s in head], dtype=np.float32)
        count = len(head) if options.group_by else window
        chosen = diversify(head, matrix, options.diversity, count) + chosen[MAX_DIVERSE:]
    if options.group_by:
        chosen = group(chosen, options.group_by, options.group_size)
    if len(chosen) < window:
        return chosen, complete
    # An order of diversity is settled by its pool; any other when no unseen item can tie with the last.
    settled = options.diversity > 0.0 or chosen[window - 1].score > ranked[-1].score
    return chosen, complete or settled
