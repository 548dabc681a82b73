"""The items of a version over any backend: checks, encoding, paging, grouping and decoding."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cir.fields import FieldType
from vector_store.backend import Hit, PointsBackend, SearchPlan
from vector_store.base import CatalogVersion, SearchOptions, VersionItems
from vector_store.codec import decode_item, encode_payloads, encode_points, unit_vector
from vector_store.errors import InvalidQueryError
from vector_store.exact_ranges import exact_filter
from vector_store.filters import Filter
from vector_store.payload_index import data_path
from vector_store.ranking import (
    MAX_DIVERSE,
    MAX_FETCH,
    by_score,
    check_options,
    check_window,
    diversify,
    first_fetch,
    group,
    search_ef,
)
from vector_store.types import (
    FacetValue,
    Item,
    PayloadBatch,
    PointBatch,
    Quantization,
    ScoredItem,
    VersionInfo,
    point_id,
)
from vector_store.validation import check_facet_field, check_filter, check_group_field, check_item_id

# Items, and characters of texts, that are encoded in the time that a thread would take to start on them.
_FEW = 16
_FEW_CHARACTERS = 16_384
# Items that are read at once, each of which may be as large as an item can be.
_READ = 64
# Items whose features tell how long those of a version are; their order follows from a hash of their ids.
_MEASURED = 4 * _READ


def _is_quick(batch: PointBatch | PayloadBatch, schema: Mapping[str, FieldType]) -> bool:
    """Return true where a batch is encoded too quickly to keep others waiting."""
    if len(batch) > _FEW:
        return False
    texts = [name for name, kind in schema.items() if kind is FieldType.TEXT]
    characters = 0
    for payload in batch.payloads if texts else ():
        for name in texts:
            value = payload.get(name)
            elements = value if isinstance(value, (list, tuple)) else [value]
            characters += sum(len(element) for element in elements if isinstance(element, str))
    return characters <= _FEW_CHARACTERS


class BackendItems(VersionItems):
    """Items of a version, read and changed through `engine`.

    Subclasses decide whether the version is open, and what happens around a change.
    """

    # Whether the version is finished.
    _online = False

    def __init__(self, info: VersionInfo, engine: PointsBackend) -> None:
        self.info = info
        self._engine = engine

    def _check_open(self) -> None:
        """Raise where nothing more may be read or written."""

    async def _changing(self) -> None:
        """Run before each change; raise to forbid it."""

    async def _changed(self, items: int) -> None:
        """Run after each change, with the number of items that were given."""

    async def retrieve(self, ids: Sequence[str], *, with_features: bool = False) -> dict[str, Item]:
        self._check_open()
        for item_id in ids:
            check_item_id(item_id)
        if not ids:
            return {}
        engine_ids = [point_id(item_id) for item_id in dict.fromkeys(ids)]
        items: dict[str, Item] = {}
        for start in range(0, len(engine_ids), _READ):
            part = engine_ids[start : start + _READ]
            for record in await self._engine.retrieve(part, with_vectors=with_features):
                if item := decode_item(record.payload, record.vector):
                    items[item.id] = item
        return {item_id: items[item_id] for item_id in ids if item_id in items}

    async def scroll(
        self,
        *,
        limit: int,
        after: str = "",
        where: Filter | None = None,
        with_features: bool = False,
        take: Callable[[Item], bool] | None = None,
    ) -> tuple[list[Item], str]:
        self._check_open()
        if limit < 1:
            raise InvalidQueryError(f"limit {limit}: expected 1 or more", field="limit")
        if after:
            after = _cursor(after)
        where = self._checked(where)
        items: list[Item] = []
        left, size = limit, limit if take is None else _READ
        while True:
            records, after = await self._engine.scroll(
                limit=min(left, size), after=after, where=where, with_vectors=with_features
            )
            for record in records:
                item = decode_item(record.payload, record.vector)
                if item is None:
                    continue
                if take is not None and not take(item):
                    return items, str(record.id)
                items.append(item)
            left -= len(records)
            if not after or left <= 0:
                return items, after
            size *= 2  # all that came was taken, so the items are small enough

    async def _image_length(self) -> float | None:
        """Return the mean length of the raw features of a sample; None without items."""
        norms: list[float] = []
        after = ""
        while len(norms) < _MEASURED:
            records, after = await self._engine.scroll(
                limit=_READ, after=after, where=None, with_vectors=False
            )
            norms += [item.norm for record in records if (item := decode_item(record.payload, record.vector))]
            if not after:
                break
        return float(np.mean(norms)) if norms else None

    async def count(self, where: Filter | None = None) -> int:
        self._check_open()
        return await self._engine.count(self._checked(where))

    def _checked(self, where: Filter | None) -> Filter | None:
        """Return a filter as engines answer it exactly; raise `InvalidQueryError` where it does not fit."""
        check_filter(where, self.info.spec.schema)
        return exact_filter(where, self.info.spec.schema)

    async def upsert(self, batch: PointBatch) -> None:
        self._check_open()
        if not len(batch):
            return
        if _is_quick(batch, self.info.spec.schema):
            points = encode_points(batch, self.info.spec, online=self._online)
        else:
            points = await asyncio.to_thread(encode_points, batch, self.info.spec, online=self._online)
        await self._changing()
        await self._engine.upsert(points)
        await self._changed(len(batch))

    async def set_payloads(self, batch: PayloadBatch) -> int:
        self._check_open()
        if not len(batch):
            return 0
        if _is_quick(batch, self.info.spec.schema):
            documents = encode_payloads(batch, self.info.spec)
        else:
            documents = await asyncio.to_thread(encode_payloads, batch, self.info.spec)
        found = await self._engine.retrieve(list(documents), with_vectors=False)
        existing = {str(record.id) for record in found}
        if existing:
            await self._changing()
            await self._engine.set_payloads({key: documents[key] for key in documents if key in existing})
            await self._changed(len(existing))
        return len(existing)

    async def delete(self, ids: Sequence[str]) -> int:
        self._check_open()
        for item_id in ids:
            check_item_id(item_id)
        if not ids:
            return 0
        engine_ids = [point_id(item_id) for item_id in dict.fromkeys(ids)]
        existed = len(await self._engine.retrieve(engine_ids, with_vectors=False))
        if existed:
            await self._changing()
            await self._engine.delete(engine_ids)
            await self._changed(existed)
        return existed

    async def delete_where(self, where: Filter) -> int:
        self._check_open()
        if not where:
            raise InvalidQueryError(
                "the filter is empty and would delete every item; delete the version or catalog instead",
                field="where",
            )
        where = self._checked(where) or where
        existed = await self._engine.count(where)
        if existed:
            await self._changing()
            await self._engine.delete_where(where)
            await self._changed(existed)
        return existed


def _cursor(after: str) -> str:
    try:
        return str(uuid.UUID(after))
    except ValueError:
        raise InvalidQueryError(f"{after!r} is not a cursor that scroll returned", field="after") from None


# Values of equal count beyond the limit are fetched too, so that which of them are shown is settled here.
_FACET_TIES = 256
_MAX_FACETS = 10_000
# Hits that are read whole. Of more, only what orders them is read, and then the items of the page.
_WHOLE_HITS = 64


async def _nothing() -> None:
    return None


class BackendVersion(BackendItems, CatalogVersion):
    """One open version on `engine`; `before_change` and `on_change` run around each online change."""

    _online = True

    def __init__(
        self,
        info: VersionInfo,
        engine: PointsBackend,
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
        """Return the items nearest to `vector` by cosine, best first, as `CatalogReader.query` says.

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
        where = self._checked(where)
        if options.group_by:
            check_group_field(options.group_by, schema)
        if limit == 0:
            return []
        fetch = first_fetch(window, options)
        # Scores of binary vectors count bits; they are no cosines.
        rescore = options.rescore or self.info.spec.index.quantization is Quantization.BINARY
        with_vectors = options.with_features or options.diversity > 0.0
        members = ("id", "norm", *([data_path(options.group_by)] if options.group_by else ()))
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
                members=None if fetch <= _WHOLE_HITS else members,
            )
            hits = await self._engine.search(plan)
            if options.diversity > 0.0:
                found, enough = await asyncio.to_thread(_arrange, hits, window, options)
            else:
                found, enough = _arrange(hits, window, options)
            if enough or len(hits) < fetch or fetch >= MAX_FETCH:
                page = found[offset:window]
                return page if plan.members is None else await self._read_whole(page)
            fetch = min(2 * fetch, MAX_FETCH)

    async def _read_whole(self, page: Sequence[ScoredItem]) -> list[ScoredItem]:
        """Return the hits with payload and image; of one that was deleted meanwhile the id is left."""
        whole = await self.retrieve([scored.item.id for scored in page])
        return [
            replace(
                scored,
                item=replace(whole.get(scored.item.id, scored.item), features=scored.item.features),
            )
            for scored in page
        ]

    async def unindexed(self) -> int:
        return await self._engine.unindexed()

    async def facet(self, field: str, *, limit: int, where: Filter | None = None) -> list[FacetValue]:
        check_facet_field(field, self.info.spec.schema)
        where = self._checked(where)
        if not 1 <= limit <= _MAX_FACETS:
            raise InvalidQueryError(f"limit {limit}: expected 1 to {_MAX_FACETS}", field="limit")
        values = await self._engine.facet(field, limit=limit + _FACET_TIES, where=where)
        return sorted(values, key=lambda facet: (-facet.count, isinstance(facet.value, str), facet.value))[
            :limit
        ]


def _arrange(hits: Sequence[Hit], window: int, options: SearchOptions) -> tuple[list[ScoredItem], bool]:
    """The hits in final order, and whether the first `window` of them are settled."""
    with_features = options.with_features
    items = (decode_item(hit.record.payload, hit.record.vector if with_features else None) for hit in hits)
    ranked = by_score(
        ScoredItem(item, min(1.0, max(-1.0, hit.score)))
        for item, hit in zip(items, hits, strict=True)
        if item is not None
    )
    threshold = options.score_threshold
    chosen = ranked if threshold is None else [s for s in ranked if s.score >= threshold]
    # Everything that passes was fetched when the worst hit fell below the threshold.
    complete = len(chosen) < len(ranked)
    if options.diversity > 0.0:
        head = chosen[:MAX_DIVERSE]
        vectors = {hit.record.payload.get("id"): hit.record.vector for hit in hits}
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
