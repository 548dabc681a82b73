"""The same values give the same items, in CSV, JSON Lines, Parquet, tar shards and data frames."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cir.datetimes import format_datetime
from cir.fields import FieldType
from cir.tables.frames import FrameItems
from indexer.rejects import Reject
from indexer.sources.base import Source
from indexer.sources.manifest import ManifestSource
from indexer.sources.tar import TarSource
from indexer.validate import validate_items

NAN, INF = float("nan"), float("inf")

# A column holds values of one of these, so that the text formats know its type from its values.
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=8).map(
    lambda text: f"w{text}"
)
SCALARS: dict[FieldType, st.SearchStrategy[Any]] = {
    FieldType.INTEGER: st.integers(-(2**63), 2**63 - 1),
    FieldType.FLOAT: st.floats(-(2.0**52), 2.0**52) | st.sampled_from([NAN, 1e300, -1e-300]),
    FieldType.BOOL: st.booleans(),
    FieldType.KEYWORD: WORDS,
    FieldType.DATETIME: st.dates().map(date.isoformat),
}
COLUMNS = st.sampled_from([*SCALARS]).flatmap(
    lambda kind: st.tuples(
        st.booleans(), st.lists(st.none() | SCALARS[kind], min_size=3, max_size=3), st.just(kind)
    )
)
ARROW = {
    FieldType.INTEGER: pa.int64(),
    FieldType.FLOAT: pa.float64(),
    FieldType.BOOL: pa.bool_(),
    FieldType.KEYWORD: pa.string(),
    FieldType.DATETIME: pa.string(),
}


def csv_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return json.dumps(value)
    if isinstance(value, float):
        # Beyond doubt a number: 1e+300 rather than 1e300.
        return repr(value)
    return str(value)


def table_of(rows: list[dict[str, Any]], kinds: dict[str, pa.DataType]) -> Any:
    return pa.table(
        {
            **{name: pa.array([row[name] for row in rows], pa.string()) for name in ("id", "image")},
            **{name: pa.array([row.get(name) for row in rows], kind) for name, kind in kinds.items()},
        }
    )


def write(folder: Path, rows: list[dict[str, Any]], kinds: dict[str, pa.DataType]) -> list[Source]:
    names = ["id", "image", *kinds]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([names, *([csv_text(row.get(name)) for name in names] for row in rows)])
    (folder / "m.csv").write_text(text.getvalue(), encoding="utf-8")
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(table_of(rows, kinds), folder / "m.parquet")
    with tarfile.open(folder / "m.tar", "w") as tar:
        for row in rows:
            payload = {name: value for name, value in row.items() if name not in ("id", "image")}
            for ending, content in (("jpg", b"x"), ("json", json.dumps(payload).encode())):
                info = tarfile.TarInfo(f"{row['id']}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return [
        *(ManifestSource(folder / f"m.{ending}") for ending in ("csv", "jsonl", "parquet")),
        TarSource(str(folder / "m.tar")),
    ]


def outcome(source: Source) -> tuple[Any, ...]:
    facts = source.survey()
    found: list[tuple[str, Any]] = []
    for item in validate_items(source.items(), facts.schema):
        if isinstance(item, Reject):
            found.append((item.id, item.reason))
        else:
            payload = {name: (type(value), value) for name, value in item.payload.items()}
            found.append((item.id, payload))
    return dict(facts.schema), found


def of_frame(table: Any) -> tuple[Any, ...]:
    """Return the outcome of a data frame that a client sends, moments as they are stored."""

    def stored(value: Any) -> Any:
        if isinstance(value, list):
            return [stored(element) for element in value]
        return format_datetime(value) if isinstance(value, datetime) else value

    items = FrameItems(table, image="image")
    found = []
    for item in items:
        payload = {name: stored(value) for name, value in item.payload.items()}
        found.append((item.id, {name: (type(value), value) for name, value in payload.items()}))
    return items.schema, found


@given(st.lists(COLUMNS, min_size=1, max_size=3))
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_values_give_the_same_items(tmp_path: Path, columns: list[Any]) -> None:
    rows: list[dict[str, Any]] = [{"id": f"i{row}", "image": f"{row}.jpg"} for row in range(3)]
    kinds = {}
    for position, (listed, values, kind) in enumerate(columns):
        name = f"c{position}"
        kinds[name] = pa.list_(ARROW[kind]) if listed else ARROW[kind]
        for row, value in zip(rows, values, strict=True):
            row[name] = [value, None, value] if listed else value
    first, *others = map(outcome, write(tmp_path, rows, kinds))
    assert all(other == first for other in others)
    assert of_frame(table_of(rows, kinds)) == first
    assert all(isinstance(payload, dict) for _, payload in first[1])


@pytest.mark.parametrize("bad", [INF, -INF, "caf\udce9"])
def test_what_no_field_can_hold_is_the_reject_of_the_same_row(tmp_path: Path, bad: Any) -> None:
    good = 1.5 if isinstance(bad, float) else "x"
    rows = [{"id": f"i{row}", "image": f"{row}.jpg", "c": bad if row == 1 else good} for row in range(3)]
    sources = write(tmp_path, [{**row, "c": good} for row in rows], {"c": pa.array([good]).type})
    # Neither writer would write it.
    path = tmp_path / "m.csv"
    lines = path.read_text().splitlines(keepends=True)
    lines[2] = f"i1,1.jpg,{bad}\n"
    path.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    raw = bad.encode(errors="surrogateescape") if isinstance(bad, str) else bad
    column = pa.array([good, raw, good]) if isinstance(bad, float) else pa.array([b"x", raw, b"x"])
    if isinstance(bad, str):
        column = pa.Array.from_buffers(pa.string(), 3, column.buffers())
    ids, images = [row["id"] for row in rows], [row["image"] for row in rows]
    pq.write_table(pa.table({"id": ids, "image": images, "c": column}), tmp_path / "m.parquet")
    with tarfile.open(tmp_path / "m.tar", "w") as tar:
        for row in rows:
            for ending, content in (("jpg", b"x"), ("json", json.dumps({"c": row["c"]}).encode())):
                info = tarfile.TarInfo(f"{row['id']}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    for number, source in zip((3, 2, 2, 2), sources, strict=True):
        kept, reject, _ = source.items()
        assert isinstance(reject, Reject)
        assert (reject.id, reject.reason) == ("i1", "PAYLOAD_INVALID")
        assert reject.message.startswith(f"row {number}: column 'c' holds ")
        assert not isinstance(kept, Reject)


TEXTS = st.text(st.characters(exclude_categories=()), max_size=12)


@given(st.binary(max_size=60) | TEXTS.map(lambda text: text.encode(errors="surrogatepass")))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_in_a_row_are_its_item_or_its_reject(tmp_path: Path, content: bytes) -> None:
    """In CSV quotes and line ends are left out: they make rows of their own."""
    for ending, head, foot in (
        ("csv", b"image,c\n0.jpg,1.5\n1.jpg,", b"\n2.jpg,2\n"),
        ("jsonl", b'{"image":"0.jpg"}\n{"image":"1.jpg","c":', b'}\n{"image":"2.jpg"}\n'),
    ):
        middle = bytes(byte for byte in content if byte not in b'"\r\n') or b"0"
        (tmp_path / f"m.{ending}").write_bytes(head + middle + foot)
        source = ManifestSource(tmp_path / f"m.{ending}")
        facts = source.survey()
        found = list(validate_items(source.items(), facts.schema))
        assert facts.total == len(found) == 3
        assert [found[0].id, found[2].id] == ["0.jpg", "2.jpg"]
        for item in found:
            if isinstance(item, Reject):
                assert item.message.startswith("row ")
                json.dumps(item.message).encode()
