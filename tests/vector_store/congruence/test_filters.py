"""Each kind of condition, nested ones, and the same answers as plain Python for generated ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vector_store import VectorStore
from vector_store.errors import InvalidQueryError
from vector_store.filters import Condition, Exists, Filter, GeoRadius, HasId, MatchAny, MatchText, Range

from ..reference import passes, ranking
from ..samples import ODD, batch, build, features, spec

pytestmark = pytest.mark.service

BERLIN = {"lat": 52.52, "lon": 13.405}
PARIS = {"lat": 48.8566, "lon": 2.3522}

ITEMS: dict[str, dict[str, Any]] = {
    "dress": {"colour": "red", "size": 38, "price": 59.5, "sale": True, "added": "2024-05-01T10:00:00Z"},
    "shirt": {"colour": ["blue", "white"], "size": [38, 40], "price": 20, "sale": False, "shop": BERLIN},
    "skirt": {"colour": "red", "title": "Pleated red Skirt, long", "added": "2024-05-01T10:00:00+02:00"},
    "coat": {"title": ["Warm winter coat", "rain-proof"], "shop": [PARIS, BERLIN], "added": "2024-06-01"},
    "robe": {"title": ["赤いワンピース、2024年", "ชุดสีแดงlong"]},
    "void": {"colour": None, "size": [], ODD: 'a "quoted" value'},
    "bare": {},
}

TWO_HOURS = timezone(timedelta(hours=2))

CASES: list[tuple[Condition, set[str]]] = [
    (MatchAny("colour", ("red",)), {"dress", "skirt"}),
    (MatchAny("colour", ("white", "red")), {"dress", "skirt", "shirt"}),
    (MatchAny("colour", ()), set()),
    (MatchAny("size", (40, 41)), {"shirt"}),
    (MatchAny("sale", (True,)), {"dress"}),
    (MatchAny("sale", (True, False)), {"dress", "shirt"}),
    (MatchAny(ODD, ('a "quoted" value',)), {"void"}),
    (MatchAny("added", ("2024-05-01",)), {"dress", "skirt"}),
    (MatchAny("added", ("2024-05-01T12:00+02:00", "2024-06-01")), {"dress", "coat"}),
    (MatchAny("added", ()), set()),
    (Range("size", gte=38, lt=40), {"dress", "shirt"}),
    (Range("size", gt=38), {"shirt"}),
    (Range("size", gte=37.5, lt=38.5), {"dress", "shirt"}),
    (Range("size", gte=1e300), set()),
    (Range("size", lt=2**63 - 1), {"dress", "shirt"}),
    (Range("size", gt=40, lt=38), set()),
    (Range("price", gt=20), {"dress"}),
    (Range("price", gte=20, lte=59.5), {"dress", "shirt"}),
    (Range("added", gte=datetime(2024, 5, 1, 10, tzinfo=UTC)), {"dress", "coat"}),
    (Range("added", lt=datetime(2024, 5, 1, 10)), {"skirt"}),
    (Range("added", lte=datetime(2024, 5, 1, 10, tzinfo=TWO_HOURS)), {"skirt"}),
    (Exists("colour"), {"dress", "shirt", "skirt"}),
    (Exists("size"), {"dress", "shirt"}),
    (Exists(ODD), {"void"}),
    (Exists("title"), {"skirt", "coat", "robe"}),
    (HasId(("bare", "coat", "unknown")), {"bare", "coat"}),
    (HasId(()), set()),
    (GeoRadius("shop", 52.5, 13.4, 10_000), {"shirt", "coat"}),
    (GeoRadius("shop", 48.9, 2.3, 10_000), {"coat"}),
    (GeoRadius("shop", 0, 0, 1), set()),
    (MatchText("title", "RED skirt"), {"skirt"}),
    (MatchText("title", "proof winter"), {"coat"}),
    (MatchText("title", "wint"), set()),
    (MatchText("title", "ワンピース 2024 LONG"), {"robe"}),
    (MatchText("title", "สีแดง"), {"robe"}),
    (MatchText("title", "long"), {"skirt", "robe"}),
    (MatchText("title", "スピ"), set()),
    (Filter(), set(ITEMS)),
    (Filter(must=(Filter(),)), set(ITEMS)),
    (Filter(must_not=(Filter(),)), set()),
    (Filter(should=(Filter(), MatchAny("colour", ("red",)))), set(ITEMS)),
    (Filter(should=(MatchAny("size", (40,)), Exists("title"))), {"shirt", "skirt", "coat", "robe"}),
    (
        Filter(must=(MatchAny("colour", ("red",)),), should=(Exists("price"), HasId(("void",)))),
        {"dress"},
    ),
    (
        Filter(
            must=(Filter(should=(MatchAny("colour", ("red",)), Exists("shop"))),),
            must_not=(Filter(must=(Exists("price"), MatchAny("sale", (True,)))),),
        ),
        {"shirt", "skirt", "coat"},
    ),
]


@pytest.fixture
async def shop(store: VectorStore, catalog: str) -> str:
    await build(store, catalog, batch(list(ITEMS), payloads=list(ITEMS.values())), spec())
    return catalog


async def test_every_kind_of_condition(store: VectorStore, shop: str) -> None:
    async with store.open_version(shop) as pinned:
        for condition, expected in CASES:
            where = condition if isinstance(condition, Filter) else Filter(must=(condition,))
            items, _ = await pinned.scroll(limit=100, where=where)
            assert {item.id for item in items} == expected, condition
            assert await pinned.count(where) == len(expected), condition
            found = await pinned.query(features(1)[0], limit=100, where=where)
            assert {scored.item.id for scored in found} == expected, condition
            assert {i for i, p in ITEMS.items() if passes(where, i, p)} == expected, condition


BAD: list[tuple[Condition, str]] = [
    (MatchAny("nope", ("x",)), "unknown field 'nope'"),
    (MatchAny("data", ("x",)), "unknown field 'data'"),
    (MatchAny("colour", (1,)), "'colour' has type keyword"),
    (MatchAny("size", ("38",)), "'size' has type integer"),
    (MatchAny("size", (True,)), "'size' has type integer"),
    (MatchAny("size", (2**63,)), "'size' has type integer"),
    (MatchAny("sale", (1,)), "'sale' has type bool"),
    (MatchAny("price", (1,)), "'price' has type float and cannot be matched"),
    (MatchAny("colour", ("\ud800",)), "'colour' has type keyword"),
    (
        MatchAny("added", ("spring",)),
        "'added' has type datetime, the filter gives 'spring'; expected RFC 3339",
    ),
    (MatchAny("added", ("2024-05-01",) * 65), "at most 64 values"),
    (Range("colour", gt=1), "'colour' has type keyword and cannot be compared"),
    (Range("size"), "at least one bound"),
    (Range("size", gt=float("nan")), "'size' has type integer"),
    (Range("size", gt=datetime(2024, 1, 1)), "'size' has type integer"),
    (Range("added", gt=1.0), "'added' has type datetime"),
    (Exists("nope"), "unknown field 'nope'"),
    (GeoRadius("size", 0, 0, 1), "'size' has type integer and cannot be searched by distance"),
    (GeoRadius("shop", 91, 0, 1), "latitude 91"),
    (GeoRadius("shop", 0, 181, 1), "longitude 181"),
    (GeoRadius("shop", 0, 0, 0), "radius 0"),
    (GeoRadius("shop", 0, 0, float("inf")), "radius inf"),
    (MatchText("colour", "red"), "'colour' has type keyword and cannot be searched by words"),
    (
        MatchAny("price", ("12",)),
        "'price' has type float and .* a field of type float is filtered by a range",
    ),
    (MatchAny("title", ("red",)), "a field of type text is filtered by words"),
    (MatchText("title", " - "), "no word"),
]


async def test_filters_that_do_not_fit(store: VectorStore, shop: str) -> None:
    async with store.open_version(shop) as pinned:
        for condition, message in BAD:
            where = Filter(should=(Filter(must_not=(condition,)),))
            with pytest.raises(InvalidQueryError, match=message):
                await pinned.query(features(1)[0], limit=1, where=where)
            with pytest.raises(InvalidQueryError, match=message):
                await pinned.count(where)
            with pytest.raises(InvalidQueryError, match=message):
                await pinned.scroll(limit=1, where=where)
            with pytest.raises(InvalidQueryError, match=message):
                await pinned.facet("colour", limit=1, where=where)
        assert await pinned.count() == len(ITEMS)


async def test_nesting_has_a_limit(store: VectorStore, shop: str) -> None:
    where = Filter(must=(Exists("colour"),))
    for _ in range(7):
        where = Filter(must=(where,))
    async with store.open_version(shop) as pinned:
        assert await pinned.count(where) == 3
        with pytest.raises(InvalidQueryError, match="nests deeper"):
            await pinned.count(Filter(must=(where,)))


_COLOURS = st.sampled_from(["red", "blue", "white", "Red"])
# Also integers that doubles cannot tell apart, at the ends of what 64 bits hold.
_SIZES = st.one_of(
    st.integers(36, 42),
    st.integers(2**53 - 2, 2**53 + 4),
    st.integers(-(2**53) - 4, 2 - 2**53),
    st.integers(1_766_000_000_000_000_000, 1_766_000_000_000_000_900),
    st.integers(2**63 - 1500, 2**63 - 1),
    st.integers(-(2**63), 3 - 2**63),
)
_PRICES = st.sampled_from([-1.5, 0.0, 9.99, 10.0, 1e6, 2.0**53, 2.0**53 + 2])
_PRICE_BOUNDS = st.one_of(_PRICES, st.sampled_from([2**53 - 1, 2**53 + 1, 2**53 + 3, -3]))
_SIZE_BOUNDS = st.one_of(_SIZES, st.floats(36, 42), st.sampled_from([2.0**53, -(2.0**63), 1e300, -1e300]))
_MOMENTS = st.one_of(
    st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 9)).map(lambda m: m.replace(microsecond=0)),
    st.sampled_from([datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999), datetime(999, 9, 9, 9)]),
)
_TEXTS_OF_MOMENTS = _MOMENTS.map(lambda m: m.isoformat() + "Z")
_DAYS = _MOMENTS.map(lambda m: m.date().isoformat())
_PLACES = st.builds(lambda lat, lon: {"lat": lat, "lon": lon}, st.integers(-80, 80), st.integers(-170, 170))
_TITLES = st.lists(
    st.sampled_from(["Red", "dress", "long-sleeved", "42", "红色连衣裙", "连衣裤 衣裙", "ชุดสีแดง"]), max_size=3
).map(" ".join)
_PARTS = ["连衣裙", "裙", "衣裙 red", "สีแดง", "แดงสี"]


def _value(element: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | element | st.lists(element, max_size=3)


_PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "colour": _value(_COLOURS),
        "size": _value(_SIZES),
        "price": _value(_PRICES),
        "sale": _value(st.booleans()),
        "added": _value(_TEXTS_OF_MOMENTS),
        "shop": _value(_PLACES),
        "title": _value(_TITLES),
        ODD: _value(_COLOURS),
    },
)


def _range(field: str, bound: st.SearchStrategy[Any]) -> st.SearchStrategy[Range]:
    low = st.one_of(st.tuples(st.just("gt"), bound), st.tuples(st.just("gte"), bound))
    high = st.one_of(st.tuples(st.just("lt"), bound), st.tuples(st.just("lte"), bound))
    bounds = st.one_of(low.map(lambda b: [b]), high.map(lambda b: [b]), st.tuples(low, high))
    return bounds.map(lambda chosen: Range(field, **dict(chosen)))


_LEAVES: st.SearchStrategy[Condition] = st.one_of(
    st.builds(MatchAny, st.sampled_from(["colour", ODD]), st.lists(_COLOURS, max_size=2).map(tuple)),
    st.builds(MatchAny, st.just("size"), st.lists(_SIZES, max_size=3).map(tuple)),
    st.builds(MatchAny, st.just("sale"), st.lists(st.booleans(), max_size=2).map(tuple)),
    st.builds(MatchAny, st.just("added"), st.lists(_DAYS | _TEXTS_OF_MOMENTS, max_size=3).map(tuple)),
    _range("size", _SIZE_BOUNDS),
    _range("price", _PRICE_BOUNDS),
    _range("added", _MOMENTS.map(lambda m: m.replace(tzinfo=UTC))),
    st.builds(Exists, st.sampled_from(["colour", "size", "price", "sale", "added", "shop", "title", ODD])),
    st.builds(HasId, st.lists(st.sampled_from(["i0", "i1", "i5", "other"]), max_size=3).map(tuple)),
    st.builds(GeoRadius, st.just("shop"), st.integers(-80, 80), st.integers(-170, 170), st.floats(1e5, 9e6)),
    st.builds(
        MatchText, st.just("title"), st.sampled_from(["red", "RED dress", "sleeved", "42 long", "x", *_PARTS])
    ),
)


def _clauses(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Filter]:
    clause = st.lists(inner, max_size=2).map(tuple)
    return st.builds(Filter, must=clause, should=clause, must_not=clause)


_FILTERS = _clauses(st.recursive(_LEAVES, _clauses, max_leaves=5))


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    payloads=st.lists(_PAYLOADS, min_size=1, max_size=12),
    filters=st.lists(_FILTERS, min_size=8, max_size=12),
    seed=st.integers(0, 1_000),
)
async def test_generated_filters_agree_with_plain_python(
    store: VectorStore, shop: str, payloads: list[dict[str, Any]], filters: list[Filter], seed: int
) -> None:
    ids = [f"i{row}" for row in range(len(payloads))]
    points = batch(ids, features(len(ids), seed=seed), payloads)
    query = features(1, seed=seed + 1)[0]
    async with store.open_version(shop) as pinned:
        # One version for all examples, each with its own items.
        await pinned.delete([*ITEMS, *(f"i{row}" for row in range(12))])
        await pinned.upsert(points)
        for where in filters:
            expected = [item_id for item_id, _ in ranking(points, query, where)]
            found = await pinned.query(query, limit=len(ids), where=where)
            assert [scored.item.id for scored in found] == expected
            assert await pinned.count(where) == len(expected)


async def test_integers_that_doubles_cannot_tell_apart_are_compared_exactly(
    store: VectorStore, catalog: str
) -> None:
    numbers = [2**53 - 1, 2**53, 2**53 + 1, 1_766_000_000_000_000_001, -(2**53) - 1, 2**63 - 1, -(2**63)]
    ids = [f"i{row}" for row in range(len(numbers))]
    await build(store, catalog, batch(ids, payloads=[{"size": number} for number in numbers]))
    async with store.open_version(catalog) as pinned:
        for bound in numbers:
            for side, holds in (
                ("gt", int.__gt__),
                ("gte", int.__ge__),
                ("lt", int.__lt__),
                ("lte", int.__le__),
            ):
                expected = sum(holds(number, bound) for number in numbers)
                assert await pinned.count(Filter(must=(Range("size", **{side: bound}),))) == expected
