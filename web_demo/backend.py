"""Everything that the pages need from the search service, fetched and cached for a short time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
from cachetools import LRUCache, TTLCache

from cir.async_client import AsyncClient
from cir.errors import CirError, NotFound
from cir.models import FacetCount, Item, Result, SearchAnswer, SearchInfo, Version
from cir.turns import Turn
from web_demo.benchmark_queries import BenchmarkQueries, BenchmarkQuery, candidate_ids
from web_demo.media import Uploads
from web_demo.state import State

COLOUR_FIELDS = ("colour", "color")
_FIELDS_WITHOUT_FACET = ("id", "split", "price", "caption", "image", "path", "name", "title")
_CACHE_SECONDS = 10.0
_CACHED_CATALOGS = 1000
_CACHED_LOCATIONS = 20_000
_FACET_VALUES = 14
_MAX_IDS = 1000
_INTEGER = re.compile(r"-?[0-9]{1,19}")


class NoCatalogError(LookupError):
    """The search service has no published catalog."""


class UploadGoneError(LookupError):
    """The address names an uploaded image that was deleted."""


@dataclass(frozen=True, slots=True)
class CatalogContext:
    """A catalog's published version, the service that searches it, and how often each value occurs."""

    name: str
    version: Version
    info: SearchInfo
    facets: Mapping[str, Sequence[FacetCount]]


@dataclass(frozen=True, slots=True)
class PageData:
    """Data of one page: search answers for a conversation, `explore` where none has begun.

    `answers` are by the combiner that was asked for ("" for the default one), the one to compare with last.
    `reference` is the item that the last turn starts from while it has no text, `suggested` the texts of
    benchmark queries for it. `benchmark` is the benchmark query that was asked, `group` its items.
    """

    state: State
    catalogs: Sequence[str]
    context: CatalogContext
    explore: SearchAnswer | None = None
    answers: Sequence[tuple[str, SearchAnswer]] = ()
    reference: Item | None = None
    suggested: Sequence[str] = ()
    benchmark: BenchmarkQuery | None = None
    group: Sequence[Item] = ()


class SearchBackend:
    """The search service, as pages ask it. For one event loop.

    Raises:
        CirError: from every method, when the search service refuses a call or cannot be reached.
    """

    def __init__(
        self, client: AsyncClient, uploads: Uploads, benchmark: BenchmarkQueries, *, page_size: int
    ) -> None:
        self._client = client
        self._uploads = uploads
        self._benchmark = benchmark
        self._page_size = page_size
        self._catalogs: TTLCache[str, Mapping[str, Version]] = TTLCache(1, _CACHE_SECONDS)
        self._contexts: TTLCache[str, CatalogContext] = TTLCache(_CACHED_CATALOGS, _CACHE_SECONDS)
        self._locations: LRUCache[tuple[str, str], str] = LRUCache(_CACHED_LOCATIONS)

    async def load(self, state: State) -> PageData:
        """Fetch what the page of a conversation shows; the first catalog where the address names none.

        Raises:
            NoCatalogError: nothing is published.
            UploadGoneError: a turn's upload was deleted.
        """
        catalogs = list(await self.catalogs())
        if not catalogs:
            raise NoCatalogError
        state = replace(state, catalog=state.catalog or catalogs[0])
        context = await self.context(state.catalog)
        if not state.turns:
            return PageData(state, catalogs, context, explore=await self.explore(state))
        benchmark = await self._asked_benchmark(state)
        combiners = list(dict.fromkeys([state.combiner, state.versus or state.combiner]))
        answers = await asyncio.gather(*(self.search(state, combiner) for combiner in combiners))
        reference = None
        if state.last.item and not state.last.text:
            reference = await self.item(state.catalog, state.last.item)
        return PageData(
            state,
            catalogs,
            context,
            answers=list(zip(combiners, answers, strict=True)),
            reference=reference,
            suggested=[query.text for query in self._benchmark.of(reference.image)] if reference else [],
            benchmark=benchmark,
            group=await self._group(state.catalog, benchmark) if benchmark else [],
        )

    async def search(self, state: State, combiner: str, *, page_token: str = "") -> SearchAnswer:
        """Return a page of results of one combiner.

        Raises:
            UploadGoneError: a turn's upload was deleted.
        """
        context = await self.context(state.catalog)
        turns = await asyncio.to_thread(to_turns, state, self._uploads.read)
        answer = await self._client.search(
            state.catalog,
            turns=turns,
            combiner=combiner,
            where=to_where(state, context.version.schema),
            exclude=state.excluded,
            limit=self._page_size,
            page_token=page_token,
        )
        self._remember_images(state.catalog, answer)
        return answer

    async def explore(self, state: State) -> SearchAnswer:
        """Return items to start from: those near a random vector, which is the same for the same seed."""
        context = await self.context(state.catalog)
        digest = blake2b(f"{state.catalog}/{state.seed}".encode(), digest_size=4).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "big"))
        answer = await self._client.search(
            state.catalog,
            features=rng.normal(size=context.version.dimension).astype(np.float32),
            where=to_where(state, context.version.schema),
            limit=self._page_size,
            diversity=0.9,
        )
        self._remember_images(state.catalog, answer)
        return answer

    async def catalogs(self) -> Mapping[str, Version]:
        """Return the published version of each catalog that can be searched."""
        catalogs = self._catalogs.get("")
        if catalogs is None:
            listed = await self._client.catalogs()
            catalogs = {catalog.name: catalog.published for catalog in listed if catalog.published}
            self._catalogs[""] = catalogs
        return catalogs

    async def context(self, catalog: str) -> CatalogContext:
        """Return a catalog's context.

        Raises:
            NotFound: the catalog does not exist, or nothing is published in it.
        """
        context = self._contexts.get(catalog)
        if context is None:
            version = (await self.catalogs()).get(catalog)
            if version is None:
                raise NotFound(f"there is no catalog {catalog!r}")
            fields = choose_facet_fields(version.schema)
            info = await self._client.info()
            facets: Mapping[str, Sequence[FacetCount]] = {}
            if fields:
                with suppress(CirError):  # pages do without filters
                    facets = await self._client.facets(catalog, fields, limit=_FACET_VALUES)
            context = self._contexts[catalog] = CatalogContext(catalog, version, info, facets)
        return context

    async def item(self, catalog: str, item_id: str) -> Item:
        """Return one item.

        Raises:
            NotFound: the catalog has no such item.
        """
        item = await self._client.item(catalog, item_id)
        self._remember_images(catalog, [item])
        return item

    async def image_location(self, catalog: str, item_id: str) -> str:
        """Return where an item's image is, as the catalog says.

        Raises:
            NotFound: the catalog has no such item.
        """
        location = self._locations.get((catalog, item_id))
        return location if location is not None else (await self.item(catalog, item_id)).image

    async def _asked_benchmark(self, state: State) -> BenchmarkQuery | None:
        first = state.turns[0]
        if len(state.turns) != 1 or not first.item or not first.text:
            return None
        return self._benchmark.find(await self.image_location(state.catalog, first.item), first.text)

    async def _group(self, catalog: str, query: BenchmarkQuery) -> list[Item]:
        """Return the items of a query's group that the catalog has, in the group's order."""
        # An item's id is usually some form of its image's path; whether it is, its own image tells.
        ids = list(dict.fromkeys(item_id for path in query.group for item_id in candidate_ids(path)))
        if not ids:
            return []
        try:
            items = (await self._client.items(catalog, ids[:_MAX_IDS])).found
        except CirError:
            return []  # pages do without the group
        self._remember_images(catalog, items)
        by_image = {item.image: item for item in items}
        return [by_image[path] for path in query.group if path in by_image]

    def _remember_images(self, catalog: str, items: Iterable[Item | Result]) -> None:
        for item in items:
            self._locations[catalog, item.id] = item.image


def to_turns(state: State, read_upload: Callable[[str], bytes | None]) -> list[Turn]:
    """Return the conversation's turns, oldest first, with the images that `read_upload` gives by name.

    Raises:
        UploadGoneError: an upload was deleted.
    """
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


def to_where(state: State, schema: Mapping[str, str]) -> dict[str, list[str | bool | int]] | None:
    """Return the filters, the values of one field as alternatives, without those that `schema` lacks."""
    where: dict[str, list[str | bool | int]] = {}
    for field, value in state.filters:
        typed = typed_value(value, schema.get(field, ""))
        if typed is not None:
            where.setdefault(field, []).append(typed)
    return where or None


def typed_value(text: str, kind: str) -> str | bool | int | None:
    """Return the value that a filter's text means in a field of a kind; None where it means none."""
    if kind == "keyword":
        return text
    if kind == "bool":
        return {"true": True, "false": False}.get(text)
    if kind == "integer" and _INTEGER.fullmatch(text) and -(2**63) <= int(text) < 2**63:
        return int(text)
    return None


def choose_facet_fields(schema: Mapping[str, str], limit: int = 6) -> list[str]:
    """Return the fields to filter by: keyword and bool fields, colours first."""
    fields = [
        name
        for name, kind in schema.items()
        if kind in ("keyword", "bool") and name.lower() not in _FIELDS_WITHOUT_FACET
    ]
    return sorted(fields, key=lambda name: (name.lower() not in COLOUR_FIELDS, fields.index(name)))[:limit]
