"""What the pages ask of the search service, and what is remembered of its answers for a short time."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from cir.async_client import AsyncClient
from cir.catalog_answers import Catalog, FacetCount, Item
from cir.errors import CirError, NotFound
from cir.search_answer import Result
from cir.search_info import SearchInfo
from cir.turn import Turn
from web_demo.benchmark_queries import BenchmarkQueries, BenchmarkQuery, candidate_ids
from web_demo.media import Uploads
from web_demo.state import State
from web_demo.view import (
    Card,
    Facet,
    Page,
    Results,
    build_cards,
    build_steps,
    choose_facet_fields,
    image_url,
    item_title,
    suggest_changes,
)


class UploadGoneError(LookupError):
    """The address names an uploaded picture that was deleted."""


def to_turns(state: State, read_upload: Callable[[str], bytes | None]) -> list[Turn]:
    """The turns, oldest first. Raises `UploadGoneError`."""
    turns: list[Turn] = []
    for turn in state.turns:
        image = None
        if turn.upload:
            image = read_upload(turn.upload)
            if image is None:
                raise UploadGoneError
        turns.append(
            Turn(
                image=image,
                item=turn.item,
                text=turn.text,
                liked=turn.liked,
                disliked=turn.disliked,
                text_weight=None if turn.weight is None else turn.weight / 100,
            )
        )
    return turns


def to_where(state: State, schema: Mapping[str, str]) -> dict[str, object] | None:
    """The filters, each field's values as alternatives; fields that the catalog has not are passed over."""
    where: dict[str, object] = {}
    for field, value in state.filters:
        kind = schema.get(field)
        if kind == "bool":
            where[field] = value == "true"
        elif kind == "keyword":
            known = where.setdefault(field, [])
            assert isinstance(known, list)  # noqa: S101  # made in the line above
            known.append(value)
    return where or None


_REMEMBERED_SECONDS = 10.0
_REMEMBERED_IMAGES = 20_000
_FACET_VALUES = 14
_MOST_IDS = 1000


@dataclass(frozen=True, slots=True)
class CatalogContext:
    """What is known of a catalog."""

    catalog: Catalog
    info: SearchInfo
    facets: Mapping[str, list[FacetCount]]

    @property
    def schema(self) -> Mapping[str, str]:
        """Field to type of the published version."""
        return self.catalog.published.schema if self.catalog.published else {}


class SearchBackend:
    """Answers pages. For one event loop."""

    def __init__(
        self, client: AsyncClient, uploads: Uploads, known: BenchmarkQueries, *, page_size: int
    ) -> None:
        self._client = client
        self._uploads = uploads
        self._known = known
        self._page_size = page_size
        self._images: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._catalogs: tuple[float, list[Catalog]] = (float("-inf"), [])
        self._shops: dict[str, tuple[float, CatalogContext]] = {}

    async def page(self, state: State) -> Page:
        """The wall, or the results of the conversation. Raises `CirError`, `UploadGoneError`."""
        catalogs = [catalog.name for catalog in await self.published()]
        if not catalogs:
            return Page(state, notice="no_catalog")
        if not state.catalog:
            state = State(
                catalogs[0],
                state.turns,
                state.filters,
                state.excluded,
                state.combiner,
                state.versus,
                state.seed,
            )
        shop = await self.shop(state.catalog)
        common: dict[str, Any] = {
            "steps": build_steps(state),
            "facets": _facets(state, shop),
            "catalogs": catalogs,
            "combiners": shop.info.combiners,
            "hidden": [(key, value) for key, value in state.pairs()],
        }
        if not state.turns:
            return Page(state, wall=await self._wall(state, shop), **common)
        query = await self._known_query(state)
        combiners = [
            state.combiner,
            *([state.versus] if state.versus and state.versus != state.combiner else []),
        ]
        found = await asyncio.gather(*(self.found(state, combiner, query=query) for combiner in combiners))
        return Page(
            state,
            found=found,
            suggestions=await self._suggestions(state, shop),
            group=await self._group(state, query),
            has_target=query is not None,
            **common,
        )

    async def found(
        self, state: State, combiner: str, *, page_token: str = "", query: BenchmarkQuery | None = None
    ) -> Results:
        """A page of results of one combiner."""
        shop = await self.shop(state.catalog)
        turns = await asyncio.to_thread(to_turns, state, self._uploads.read)
        answer = await self._client.search(
            state.catalog,
            turns=turns,
            combiner=combiner,
            where=to_where(state, shop.schema),
            exclude=state.excluded,
            limit=self._page_size,
            page_token=page_token,
        )
        self._remember(state.catalog, answer)
        targets = query.targets if query else frozenset()
        cards = build_cards(state, answer, targets)
        explained = answer.explanation.turns
        composed = explained and explained[-1].kind in ("composed", "continued")
        return Results(
            combiner=answer.explanation.combiner or combiner,
            cards=cards,
            more=answer.next_page_token,
            text_weight=explained[-1].text_weight if composed else None,
            version=answer.explanation.version,
            target_rank=next((card.rank for card in cards if card.is_target), None),
        )

    async def published(self) -> list[Catalog]:
        """Catalogs that can be searched."""
        until, catalogs = self._catalogs
        if time.monotonic() >= until:
            catalogs = [catalog for catalog in await self._client.catalogs() if catalog.published]
            self._catalogs = (time.monotonic() + _REMEMBERED_SECONDS, catalogs)
        return catalogs

    async def shop(self, name: str) -> CatalogContext:
        """What is known of a catalog. Raises `NotFound`."""
        until, shop = self._shops.get(name, (float("-inf"), None))
        if shop is not None and time.monotonic() < until:
            return shop
        catalog = next((each for each in await self.published() if each.name == name), None)
        if catalog is None or catalog.published is None:
            raise NotFound(f"there is no catalog {name!r}")
        fields = choose_facet_fields(catalog.published.schema)
        info = await self._client.info()
        try:
            counted = await self._client.facets(name, fields, limit=_FACET_VALUES) if fields else {}
        except CirError:
            counted = {}  # pages do without filters
        shop = CatalogContext(catalog, info, counted)
        self._shops = {key: value for key, value in self._shops.items() if time.monotonic() < value[0]} | {
            name: (time.monotonic() + _REMEMBERED_SECONDS, shop)
        }
        return shop

    async def item(self, catalog: str, item_id: str) -> Item:
        """One item. Raises `NotFound`."""
        item = await self._client.item(catalog, item_id)
        self._remember(catalog, [item])
        return item

    async def image(self, catalog: str, item_id: str) -> str:
        """Where an item's picture is, as the catalog says. Raises `NotFound`."""
        known = self._images.get((catalog, item_id))
        return known if known is not None else (await self.item(catalog, item_id)).image

    async def _wall(self, state: State, shop: CatalogContext) -> list[Card]:
        """Items in no order that anybody could guess, the same for a seed: those near a random vector."""
        dimension = shop.catalog.published.dimension if shop.catalog.published else 1
        seed = int.from_bytes(
            blake2b(f"{state.catalog}/{state.seed}".encode(), digest_size=4).digest(), "big"
        )
        features = np.random.default_rng(seed).normal(size=dimension).astype(np.float32)
        answer = await self._client.search(
            state.catalog,
            features=features,
            where=to_where(state, shop.schema),
            limit=self._page_size,
            diversity=0.9,
        )
        self._remember(state.catalog, answer)
        return build_cards(state, answer, frozenset(), scored=False)

    async def _suggestions(self, state: State, shop: CatalogContext) -> list[str]:
        turn = state.last
        if turn.text:
            turn = type(turn)()
        texts: list[str] = []
        payload: Mapping[str, object] = {}
        if turn.item:
            item = await self.item(state.catalog, turn.item)
            texts = [query.text for query in self._known.of(item.image)][:3]
            payload = item.payload
        values = {field: [str(count.value) for count in counts] for field, counts in shop.facets.items()}
        seed = len(state.turns) + state.seed
        return [*texts, *(text for text in suggest_changes(values, payload, seed=seed) if text not in texts)][
            :6
        ]

    async def _known_query(self, state: State) -> BenchmarkQuery | None:
        first = state.turns[0]
        if len(state.turns) != 1 or not first.item or not first.text:
            return None
        return self._known.asked(await self.image(state.catalog, first.item), first.text)

    async def _group(self, state: State, query: BenchmarkQuery | None) -> list[Card]:
        if query is None or not query.group:
            return []
        # An item's id is usually some form of its picture's place; whether it is, its own place tells.
        ids = list(dict.fromkeys(name for path in query.group for name in candidate_ids(path)))
        try:
            items = (await self._client.items(state.catalog, ids[:_MOST_IDS])).found
        except CirError:
            return []  # pages do without the row
        self._remember(state.catalog, items)
        by_image = {item.image: item for item in items}
        return [
            Card(
                item.id,
                item_title(item.id, item.payload),
                image_url(state.catalog, item.id),
                state.like_this(item.id).url,
                {},
                is_target=item.image in query.targets,
            )
            for item in (by_image[path] for path in query.group if path in by_image)
        ]

    def _remember(self, catalog: str, items: Iterable[Item | Result]) -> None:
        for item in items:
            self._images[catalog, item.id] = item.image
            self._images.move_to_end((catalog, item.id))
        while len(self._images) > _REMEMBERED_IMAGES:
            self._images.popitem(last=False)


def _facets(state: State, shop: CatalogContext) -> list[Facet]:
    return [
        Facet(
            field,
            [
                (value, count.count, (field, value) in state.filters, state.filtered(field, value).url)
                for count in counts
                for value in [str(count.value).lower() if isinstance(count.value, bool) else str(count.value)]
            ],
        )
        for field, counts in shop.facets.items()
        if len(counts) > 1
    ]
