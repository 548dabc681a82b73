"""What one door takes, every door serves: random items, on both engines."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

import cir
from cir.datetimes import in_utc
from cir.fields import FieldType
from cir.payload import GeoPoint
from indexer import IndexingOptions, ManifestSource, index
from tests.indexer.fake_embedder import FakeEmbedder, serve
from tests.indexer.helpers import fill
from tests.search_service.doors import check_every_door, listed, service
from tests.search_service.neighbours import DIMENSION, FINGERPRINT, features_of
from tests.vector_store.engines import ENGINES, engine
from vector_store.types import PointBatch, VersionSpec

pytestmark = pytest.mark.service

SCHEMA = {
    "colour": FieldType.KEYWORD,
    'Size "EU"': FieldType.INTEGER,
    "price`s": FieldType.FLOAT,
    "on sale": FieldType.BOOL,
    "added.at": FieldType.DATETIME,
    "shop": FieldType.GEO,
    "title %22\\": FieldType.TEXT,
}

TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.sampled_from(
        ["café", "cafe\u0301", "a\u202fb", "👨‍👩‍👧", "x" * 3000, "\x00", 'say "hi"', "a,b", "\\"]
    ),
)
IDS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=12),
    st.sampled_from(
        ["羽绒\u3000红", "a\u00a0b", "a\u200bb", "a/b c/d", "👗", "é", "e\u0301", "x" * 2048, " ", "."]
    ),
)
INTEGERS = st.one_of(
    st.integers(-5, 5),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]),
)
FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([19999.95, 1234567.89, 139.69170600000001, 2**53, 7]),
)
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)) | st.sampled_from(
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2))),
    ]
)
PLACES = st.builds(GeoPoint, st.floats(-90, 90), st.floats(-180, 180))
BY_KIND: dict[FieldType, st.SearchStrategy[Any]] = {
    FieldType.KEYWORD: TEXTS,
    FieldType.INTEGER: INTEGERS,
    FieldType.FLOAT: FLOATS,
    FieldType.BOOL: st.booleans(),
    FieldType.DATETIME: MOMENTS,
    FieldType.GEO: PLACES,
    FieldType.TEXT: TEXTS,
}
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=8)


def values(single: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A single value, none, or a list of one type."""
    return st.none() | single | st.lists(single, max_size=3)


PAYLOADS = st.builds(
    lambda others, known: {**others, **known},
    # Fields that the schema lacks, where a moment would come back as its text.
    st.dictionaries(
        NAMES.filter(lambda name: name not in SCHEMA), values(TEXTS) | values(INTEGERS) | PLACES, max_size=2
    ),
    st.fixed_dictionaries({}, optional={name: values(BY_KIND[kind]) for name, kind in SCHEMA.items()}),
)
ITEMS = st.dictionaries(
    IDS, st.tuples(PAYLOADS, st.text(st.characters(codec="utf-8"), max_size=20)), min_size=1, max_size=5
)


def as_read(value: Any, kind: FieldType | None) -> Any:
    """A value as every reading door gives it."""
    if isinstance(value, list):
        return [as_read(element, kind) for element in value]
    if kind is FieldType.FLOAT and value is not None:
        return float(value)
    return in_utc(value) if kind is FieldType.DATETIME and value is not None else value


@settings(
    # An example takes seconds, so it is not made smaller.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    max_examples=12,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(items=ITEMS, name=st.sampled_from(ENGINES))
async def test_what_the_client_writes_passes_every_door(
    tmp_path: Path, items: dict[str, tuple[dict[str, Any], str]], name: str
) -> None:
    folder = tmp_path / uuid.uuid4().hex
    async with engine(name, folder) as store:
        writer = await store.create_version("shop", VersionSpec(DIMENSION, FINGERPRINT, SCHEMA))
        await writer.upsert(PointBatch(["first"], features_of("first")[None, :], [{}], [""]))
        info = await writer.finish()
        await store.publish("shop", info.version)
        async with service(store) as client:
            assert await client.delete("shop", ["first"]) == 1
            writes = [
                cir.ItemWrite(item_id, features=features_of(item_id), payload=payload, image=image)
                for item_id, (payload, image) in items.items()
            ]
            answer = await client.upsert("shop", writes)
            assert answer.errors == ()
            read = await listed(client, "shop")
            assert {i: (item.payload, item.image) for i, item in read.items()} == {
                item_id: ({field: as_read(v, SCHEMA.get(field)) for field, v in payload.items()}, image)
                for item_id, (payload, image) in items.items()
            }
            await check_every_door(client, store, "shop", folder / "uploads")


COLUMNS = {
    "colour": TEXTS,
    'Size "EU"': INTEGERS,
    "price`s": FLOATS,
    "on sale": st.booleans(),
    "added.at": st.one_of(
        MOMENTS.map(datetime.isoformat),
        st.sampled_from(
            ["2024-05-01T12:00Z", "2024-05-01t12:00:00.123456789z", "2024-05-01", "0001-01-01T00:00:00Z"]
        ),
    ),
    "shop": st.builds(lambda p: {"lat": p.latitude, "lon": p.longitude}, PLACES),
    "mixed": st.one_of(TEXTS, INTEGERS, st.booleans()),
}
ROWS = st.dictionaries(
    IDS,
    st.fixed_dictionaries({}, optional={name: values(column) for name, column in COLUMNS.items()}),
    min_size=3,
    max_size=6,
)


@settings(
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    max_examples=6,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(rows=ROWS, name=st.sampled_from(ENGINES))
@example(rows={" shirt ": {}, "  ": {}, "shirt": {}}, name="edge")
async def test_what_the_indexer_admits_passes_every_door(
    tmp_path: Path, rows: dict[str, dict[str, Any]], name: str
) -> None:
    folder = tmp_path / uuid.uuid4().hex
    folder.mkdir()
    files = fill(folder, len(rows))
    manifest = folder / "m.jsonl"
    lines = [{**row, "id": i, "image": file} for (i, row), file in zip(rows.items(), files, strict=True)]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    async with engine(name, folder / "store") as store, serve(FakeEmbedder()) as address:
        options = IndexingOptions(max_reject_share=1)
        report = await index(ManifestSource(manifest), "shop", store, address, options)
        async with service(store) as client:
            items = await check_every_door(client, store, "shop", folder / "uploads")
    assert len(items) == report.indexed
    # An id of spaces alone is none: the image's path is the id. JSON keeps the outer spaces of every other.
    assert items.keys() <= {item_id for item_id in rows if item_id.strip()} | set(files)


async def test_what_the_store_holds_is_told_apart_by_code_points(tmp_path: Path) -> None:
    ids = ["caf\u00e9", "cafe\u0301"]
    async with engine("edge", tmp_path) as store:
        writer = await store.create_version("shop", VersionSpec(DIMENSION, FINGERPRINT, SCHEMA))
        features = np.stack([features_of(item_id) for item_id in ids])
        await writer.upsert(PointBatch(ids, features, [{"colour": item_id} for item_id in ids], ids))
        await store.publish("shop", (await writer.finish()).version)
        async with service(store) as client:
            facets = await client.facets("shop", ["colour"])
            assert sorted(count.value for count in facets["colour"]) == sorted(ids)  # type: ignore[type-var]
            for item_id in ids:
                found = await client.list_items("shop", where={"colour": item_id})
                assert [item.id for item in found.entries] == [item_id]
                assert (await client.item("shop", item_id)).payload == {"colour": item_id}
