"""Everything that the pages need from the search service, fetched and cached for a short time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import numpy as np
from cachetools import LRUCache, TTLCache

from cir.async_client import AsyncClient
from cir.errors import CirError, InvalidArgument, NotFound
from cir.filters import Filter, HasId
from cir.models import FacetCount, Item, Result, SearchAnswer, SearchInfo, Version
from cir.turns import Turn
from web_demo.benchmark_queries import BenchmarkQueries, BenchmarkQuery, candidate_ids
from web_demo.examples import Example, find_examples
from web_demo.filters import choose_facet_fields, to_where
from web_demo.media import Uploads
from web_demo.state import State, TurnState
from web_demo.wording import words_of

_CACHE_SECONDS = 10.0
_EXAMPLE_SECONDS = 600.0
_CACHED_FACETS = 1000
_CACHED_CATALOGS = 1000
_CACHED_LOCATIONS = 20_000
_CACHED_WALLS = 500
_WALLS_OF_A_ROUND = 20
_FACET_VALUES = 14
_MAX_IDS = 1000
# How deep a known answer is looked for, which is as deep as a search goes, and by how many results at a time.
_DEEPEST_RANK = 10_000
_RANKS_AT_ONCE = 200
_CACHED_RANKS = 10_000
# Benchmark queries before and after one that are looked for in the catalog: it may lack some references.
_BESIDE = 20


class NoCatalogError(LookupError):
    """The search service has no published catalog."""


class UploadGoneError(LookupError):
    """The address names an uploaded image that was deleted."""


Facets = Mapping[str, Sequence[FacetCount]]


@dataclass(frozen=True, slots=True)
class CatalogContext:
    """A catalog's published version, the service that searches it, and how often each value occurs."""

    name: str
    version: Version
    info: SearchInfo
    facets: Mapping[str, Sequence[FacetCount]]

    @property
    def default_combiner(self) -> str:
        """Combiner that answers where none is asked for: the catalog's own, where it has one."""
        return self.info.default_combiner_of(self.name)


@dataclass(frozen=True, slots=True)
class KnownRank:
    """Rank of the known answer; None where it is not among the first `looked_at` results."""

    rank: int | None
    looked_at: int


@dataclass(frozen=True, slots=True)
class QueryPlace:
    """Place of a benchmark query among all, from 1, and those around it that the catalog can answer."""

    number: int
    of: int
    before: State | None
    after: State | None


@dataclass(frozen=True, slots=True)
class PageData:
    """Data of one page: search answers for a conversation, `explore` and `examples` where none has begun.

    `answers` are by the combiner that was asked for ("" for the default one), the one to compare with last.
    `facets` are counted under the filters. `named` are the items that the conversation names; what it names
    and is gone was taken out of `state`: so many `gone_items` and `gone_uploads`. `suggested` are the texts
    of benchmark queries for the last turn's item. `benchmark` is the benchmark query that was asked, `place`
    its place among all, `group` its items in the order of the answer, `ranks` the known answer's rank by each
    of `answers`. `first_query` is where those begin.
    """

    state: State
    catalogs: Sequence[str]
    context: CatalogContext
    facets: Facets
    explore: Sequence[Result | Item] = ()
    examples: Sequence[Example] = ()
    answers: Sequence[tuple[str, SearchAnswer]] = ()
    named: Mapping[str, Item] = field(default_factory=dict)
    gone_items: int = 0
    gone_uploads: int = 0
    suggested: Sequence[str] = ()
    benchmark: BenchmarkQuery | None = None
    group: Sequence[Result | Item] = ()
    ranks: Sequence[KnownRank] = ()
    place: QueryPlace | None = None
    first_query: State | None = None


class SearchBackend:
    """The search service, as pages ask it. For one event loop.

    Raises:
        CirError: from every method, when the search service refuses a call or cannot be reached.
    """

    def __init__(
        self,
        client: AsyncClient,
        uploads: Uploads,
        benchmark: BenchmarkQueries,
        *,
        page_size: int,
        first_catalog: str = "",
    ) -> None:
        self._client = client
        self._first_catalog = first_catalog
        self._uploads = uploads
        self._benchmark = benchmark
        self._page_size = page_size
        self._catalogs: TTLCache[str, Mapping[str, Version]] = TTLCache(1, _CACHE_SECONDS)
        self._contexts: TTLCache[str, CatalogContext] = TTLCache(_CACHED_CATALOGS, _CACHE_SECONDS)
        self._filtered_facets: TTLCache[tuple[object, ...], Facets] = TTLCache(_CACHED_FACETS, _CACHE_SECONDS)
        self._found_examples: TTLCache[tuple[str, str], Sequence[Example]] = TTLCache(
            _CACHED_CATALOGS, _EXAMPLE_SECONDS
        )
        self._ranks: TTLCache[tuple[str, ...], KnownRank] = TTLCache(_CACHED_RANKS, _EXAMPLE_SECONDS)
        self._walls: TTLCache[tuple[object, ...], SearchAnswer] = TTLCache(_CACHED_WALLS, _EXAMPLE_SECONDS)
        self._locations: LRUCache[tuple[str, str], str] = LRUCache(_CACHED_LOCATIONS)

    async def load(self, state: State) -> PageData:
        """Fetch what the page of a conversation shows; `first_catalog` where the address names none.

        Raises:
            NoCatalogError: nothing is published.
        """
        catalogs, begin_with = list(await self.catalogs()), await self.first_catalog()
        state = replace(state, catalog=state.catalog or begin_with)
        context = await self.context(state.catalog)
        asked = state
        named, state = await self._present(state)
        data = PageData(
            state,
            catalogs,
            context,
            await self._facets(state, context),
            named=named,
            gone_items=len(set(asked.items) - set(state.items)),
            gone_uploads=sum(bool(turn.upload) for turn in asked.turns)
            - sum(bool(turn.upload) for turn in state.turns),
        )
        if not state.turns:
            wall = await self._wall(state)
            first = not state.filters and not state.seed
            return replace(
                data,
                explore=wall,
                examples=await self._examples(context, wall) if first else (),
                first_query=await self._query_beside(state, -1, 1) if first else None,
            )
        benchmark = await self._asked_benchmark(state)
        versus = state.versus if state.versus != (state.combiner or context.default_combiner) else ""
        combiners = [state.combiner, versus] if versus else [state.combiner]
        answers = await asyncio.gather(*(self.search(state, combiner) for combiner in combiners))
        reference = named.get(state.last.item) if not state.last.text else None
        data = replace(
            data,
            answers=list(zip(combiners, answers, strict=True)),
            suggested=[query.text for query in self._benchmark.of(reference.image)] if reference else [],
        )
        if benchmark is None:
            return data
        group, place, ranks = await asyncio.gather(
            self._group(state, benchmark),
            self._query_place(state, named[state.last.item].image),
            asyncio.gather(*(self._rank(state, combiner, benchmark) for combiner in combiners)),
        )
        return replace(data, benchmark=benchmark, group=group, place=place, ranks=ranks)

    async def targets(self, state: State) -> frozenset[str]:
        """Return the images of the known answers to a conversation; none where it is no benchmark query."""
        benchmark = await self._asked_benchmark(state) if state.turns else None
        return benchmark.targets if benchmark else frozenset()

    async def _present(self, state: State) -> tuple[Mapping[str, Item], State]:
        """Return the items that a conversation names, by id, and the conversation without what is gone."""
        found: dict[str, Item] = {}
        ids = state.items[:_MAX_IDS]
        if ids:
            items = (await self._client.items(state.catalog, ids)).found
            self._remember_images(state.catalog, items)
            found = {item.id: item for item in items}
        uploads = [turn.upload for turn in state.turns if turn.upload]
        gone = {name for name in uploads if await asyncio.to_thread(self._uploads.read, name) is None}
        missing = set(ids) - found.keys()
        return found, state.without(missing, gone) if missing or gone else state

    async def _facets(self, state: State, context: CatalogContext) -> Facets:
        """Return how often each value occurs under the filters, a field's under those of the others."""
        if not context.facets or not to_where(state.filters, context.version.schema):
            return context.facets
        key = (state.catalog, context.version.name, state.filters)
        facets = self._filtered_facets.get(key)
        if facets is None:
            filtered = {name for name, _ in state.filters} & context.facets.keys()
            groups = [[name] for name in filtered] + [
                [name for name in context.facets if name not in filtered]
            ]
            counts: dict[str, Sequence[FacetCount]] = {}
            with suppress(CirError):  # pages do without
                for names in groups:
                    where = to_where(state.filters, context.version.schema, but=names[0] if names else "")
                    if names:
                        counts |= await self._client.facets(
                            state.catalog, names, where=where, limit=_FACET_VALUES
                        )
            facets = self._filtered_facets[key] = {name: counts.get(name, ()) for name in context.facets}
        return facets

    async def _wall(self, state: State) -> Sequence[Result | Item]:
        """Return items to start from: those first that benchmark queries start from."""
        shown: list[Result | Item] = []
        paths = self._benchmark.references
        if paths and not state.filters:
            first = state.seed * self._page_size % len(paths)
            chosen = [*paths[first:], *paths[:first]][: self._page_size]
            shown += await self._items_of(state.catalog, chosen)
        if len(shown) < self._page_size:
            ids = {item.id for item in shown}
            shown += [result for result in await self.explore(state) if result.id not in ids]
        return shown[: self._page_size]

    async def _examples(self, context: CatalogContext, wall: Sequence[Result | Item]) -> Sequence[Example]:
        """Return examples of a version, which are looked for once in a while."""
        key = (context.name, context.version.name)
        examples = self._found_examples.get(key)
        if examples is None:
            words = words_of(context.facets, context.version.item_count)
            examples = await find_examples(context.name, wall, words, self.search)
            self._found_examples[key] = examples
        return examples

    async def _rank(self, state: State, combiner: str, benchmark: BenchmarkQuery) -> KnownRank:
        """Return the rank of the known answer, which is looked for as deep as a search goes."""
        version = (await self.context(state.catalog)).version.name
        key = (version, combiner, state.query)
        known = self._ranks.get(key)
        if known is None:
            known = self._ranks[key] = await self._find_rank(state, combiner, benchmark.targets)
        return known

    async def _find_rank(self, state: State, combiner: str, targets: frozenset[str]) -> KnownRank:
        token, looked_at = "", 0
        for _ in range(0, _DEEPEST_RANK, _RANKS_AT_ONCE):
            try:
                answer = await self.search(state, combiner, page_token=token, limit=_RANKS_AT_ONCE)
            except InvalidArgument:  # the service goes less deep
                break
            for result in answer:
                if result.image in targets:
                    return KnownRank(result.rank, result.rank)
            looked_at += len(answer)
            token = answer.next_page_token
            if not token:
                break
        return KnownRank(None, looked_at)

    async def _query_place(self, state: State, reference: str) -> QueryPlace:
        place = self._benchmark.place(reference, state.last.text)
        before, after = await asyncio.gather(*(self._query_beside(state, place, step) for step in (-1, 1)))
        return QueryPlace(place + 1, len(self._benchmark), before, after)

    async def _query_beside(self, state: State, place: int, step: int) -> State | None:
        """Return the next benchmark query that the catalog has the reference of, None where none is near."""
        queries = self._benchmark.beside(place, step, _BESIDE)
        items = {
            item.image: item for item in await self._items_of(state.catalog, [path for path, _ in queries])
        }
        for path, query in queries:
            if path in items:
                asked = TurnState(item=items[path].id, text=query.text)
                return replace(state, turns=(asked,), filters=(), excluded=(), seed=0)
        return None

    async def search(
        self,
        state: State,
        combiner: str,
        *,
        page_token: str = "",
        limit: int = 0,
        among: Sequence[str] = (),
    ) -> SearchAnswer:
        """Return a page of results of one combiner: of `limit`, or as many as a page shows; only `among` ids.

        Raises:
            UploadGoneError: a turn's upload was deleted.
        """
        context = await self.context(state.catalog)
        weighted = (combiner or context.default_combiner) in context.info.weighted_combiners
        turns = await asyncio.to_thread(to_turns, state, self._uploads.read, weighted=weighted)
        where = to_where(state.filters, context.version.schema)
        answer = await self._client.search(
            state.catalog,
            turns=turns,
            combiner=combiner,
            where=Filter(must=[HasId(among)]) if among else where,
            exclude=() if among else state.excluded,
            page_size=limit or self._page_size,
            page_token=page_token,
            explain_turns=not limit and not page_token,
            explain_results=not limit,
        )
        self._remember_images(state.catalog, answer)
        return answer

    async def explore(self, state: State) -> SearchAnswer:
        """Return items to start from: those near a random vector, which is the same for the same seed.

        Random vectors alone show some items often and others never. So the walls of a round, which are those
        of consecutive seeds, have no item in common, as far as the catalog's items go.
        """
        context = await self.context(state.catalog)
        walls = min(_WALLS_OF_A_ROUND, max(1, context.version.item_count // self._page_size))
        shown: list[str] = []
        answer = await self._explore(state, state.seed - state.seed % walls, ())
        for seed in range(state.seed - state.seed % walls + 1, state.seed + 1):
            shown += [result.id for result in answer]
            answer = await self._explore(state, seed, tuple(shown))
        # Under filters the items may all have been shown before.
        return answer if answer or not shown else await self._explore(state, state.seed, ())

    async def _explore(self, state: State, seed: int, exclude: Sequence[str]) -> SearchAnswer:
        version = (await self.context(state.catalog)).version
        key = (state.catalog, version.name, state.filters, seed, bool(exclude))
        answer = self._walls.get(key)
        if answer is None:
            digest = blake2b(f"{state.catalog}/{seed}".encode(), digest_size=4).digest()
            rng = np.random.default_rng(int.from_bytes(digest, "big"))
            answer = self._walls[key] = await self._client.search(
                state.catalog,
                features=rng.normal(size=version.dimension).astype(np.float32),
                where=to_where(state.filters, version.schema),
                page_size=self._page_size,
                exclude=exclude,
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

    async def first_catalog(self) -> str:
        """Return the catalog to begin with: that of the settings, else the newest that has items.

        Raises:
            NoCatalogError: nothing is published.
        """
        catalogs = await self.catalogs()
        if not catalogs:
            raise NoCatalogError
        if self._first_catalog in catalogs:
            return self._first_catalog
        return max(catalogs, key=lambda name: (catalogs[name].item_count > 0, catalogs[name].created))

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

    async def _group(self, state: State, query: BenchmarkQuery) -> Sequence[Result | Item]:
        """Return the items of a query's group that the catalog has, as the combiner ranks them."""
        items = await self._items_of(state.catalog, query.group)
        reference = state.turns[0].item
        ids = [item.id for item in items if item.id != reference]
        if not ids:
            return items
        try:
            return list(await self.search(state, state.combiner, limit=len(ids), among=ids))
        except CirError:
            return items  # pages do without the order

    async def _items_of(self, catalog: str, paths: Sequence[str]) -> list[Item]:
        """Return the items of a catalog that have these images, in this order."""
        # An item's id is usually some form of its image's path; whether it is, its own image tells.
        ids = list(dict.fromkeys(item_id for path in paths for item_id in candidate_ids(path)))
        if not ids:
            return []
        try:
            items = (await self._client.items(catalog, ids[:_MAX_IDS])).found
        except CirError:
            return []  # pages do without
        self._remember_images(catalog, items)
        by_image = {item.image: item for item in items}
        return [by_image[path] for path in paths if path in by_image]

    def _remember_images(self, catalog: str, items: Iterable[Item | Result]) -> None:
        for item in items:
            self._locations[catalog, item.id] = item.image


def to_turns(
    state: State, read_upload: Callable[[str], bytes | None], *, weighted: bool = True
) -> list[Turn]:
    """Return the conversation's turns, oldest first, with the images that `read_upload` gives by name.

    Weights are left out where they mean nothing: for a combiner that takes none (not `weighted`), and where
    a turn has no words or nothing that they change.

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
        composed = weighted and turn.text and (turns or turn.item or turn.upload)
        turns.append(
            Turn(
                image=image,
                item=turn.item,
                text=turn.text,
                liked=turn.liked,
                disliked=turn.disliked,
                text_weight=turn.weight / 100 if composed and turn.weight is not None else None,
            )
        )
    return turns
