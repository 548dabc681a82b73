"""Parquet as Spark, Snowflake, DuckDB, pandas and Hugging Face write it, value by value."""

from __future__ import annotations

import json
import struct
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from cir.fields import FieldType as K
from cir.tables.cells import BadCell, Unsupported
from indexer.errors import SourceError
from indexer.sources.manifest import ManifestSource
from indexer.sources.parquet import parquet_rows
from tests.indexer.sources.parquet_files import FAR, cells, payloads, rejects, with_images, write


def test_parquet(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.parquet",
        {
            "id": [1, 2],
            "image": ["1.jpg", "2.jpg"],
            "price": pa.array([Decimal("1.50"), None], pa.decimal128(6, 2)),
            "since": pa.array([date(2024, 5, 1), None]),
            "at": pa.array([1, 1_000_000_007], pa.timestamp("ns")),
            "zoned": pa.array([datetime(2024, 5, 1, 12, tzinfo=UTC), None], pa.timestamp("ms", "UTC")),
            "tags": pa.array([["a", "b"], []]),
            "where": pa.array([{"lat": 1.0, "lon": 2.0}, None]),
            "weight": [float("nan"), 2.0],
            "kind": pa.array(["x", "y"]).dictionary_encode(),
        },
    )
    source = ManifestSource(path)
    facts = source.survey()
    assert facts.total == 2
    assert facts.notes == ()
    assert facts.schema == {
        "price": K.FLOAT,
        "since": K.DATETIME,
        "at": K.DATETIME,
        "zoned": K.DATETIME,
        "tags": K.KEYWORD,
        "where": K.GEO,
        "weight": K.FLOAT,
        "kind": K.KEYWORD,
    }
    assert payloads(source) == {
        "1": {
            "price": 1.5,
            "since": "2024-05-01",
            "at": "1970-01-01T00:00:00Z",
            "zoned": "2024-05-01T12:00:00Z",
            "tags": ["a", "b"],
            "where": {"lat": 1.0, "lon": 2.0},
            "kind": "x",
        },
        "2": {"at": "1970-01-01T00:00:01Z", "tags": [], "weight": 2.0, "kind": "y"},
    }


BAD = BadCell
MOMENT = "2024-05-01T12:00:00.000001Z"
MICROS = 1_714_564_800_000_001


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.nulls(2), [None, None]),
        (pa.array([True, None]), [True, None]),
        (pa.array([2**64 - 1, None], pa.uint64()), [2**64 - 1, None]),
        (pa.array([-(2**63)], pa.int64()), [-(2**63)]),
        (pa.array([1.5, None, float("nan")], pa.float16()), [1.5, None, None]),
        (pa.array([0.1], pa.float32()), [struct.unpack("f", struct.pack("f", 0.1))[0]]),
        (pa.array([float("inf")]), [BAD]),
        (pa.array([Decimal(2**53 + 1), None], pa.decimal128(38, 0)), [2**53 + 1, None]),
        (pa.array([Decimal("1.10")], pa.decimal128(38, 2)), [Decimal("1.10")]),
        (pa.array([Decimal("9" * 60)], pa.decimal256(76, 0)), [int("9" * 60)]),
        (pa.array([Decimal("1.5")], pa.decimal32(5, 1)), [Decimal("1.5")]),
        (pa.array(["a", "", "  ", None]), ["a", None, None, None]),
        (pa.array(["a"], pa.large_string()), ["a"]),
        (pa.array(["a", None], pa.string_view()), ["a", None]),
        (pa.array(["x", None, "x"]).dictionary_encode(), ["x", None, "x"]),
        (pa.array(['{"a": 1}'], pa.json_()), ['{"a": 1}']),
        (pa.array([1, 0, None], pa.bool8()), [True, False, None]),
        (pa.array([UUID(int=7).bytes, None], pa.uuid()), [str(UUID(int=7)), None]),
        (pa.array([b"\x00\xff", None], pa.binary(2)), ["00ff", None]),
        (pa.array([date(1, 1, 1), date(9999, 12, 31)]), ["0001-01-01", "9999-12-31"]),
        (pa.array([2**31 - 1, -(2**31), None], pa.date32()), [BAD, BAD, None]),
        (pa.array([86_400_000], pa.date64()), ["1970-01-02"]),
        (pa.array([MICROS, None], pa.timestamp("us")), [MOMENT, None]),
        (pa.array([MICROS], pa.timestamp("us", "Europe/Berlin")), [MOMENT]),
        (pa.array([MICROS], pa.timestamp("us", "+05:30")), [MOMENT]),
        (pa.array([MICROS], pa.timestamp("us", "Nowhere/Land")), [MOMENT]),
        (pa.array([MICROS * 1000 + 999], pa.timestamp("ns")), [MOMENT]),
        (pa.array([-1], pa.timestamp("ns")), ["1969-12-31T23:59:59.999999Z"]),
        (pa.array([FAR * 1000 - 1, FAR * 1000], pa.timestamp("ms")), ["9999-12-31T23:59:59.999000Z", BAD]),
        (pa.array([2**63 - 1, -(2**63)], pa.timestamp("us")), [BAD, BAD]),
        (pa.array([[1, None], [], None, [2]]), [[1], [], None, [2]]),
        (pa.array([["a", ""]], pa.large_list(pa.large_string())), [["a"]]),
        (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), [[1, 2], None]),
        (pa.array([[FAR * 10**6], [MICROS]], pa.list_(pa.timestamp("us"))), [BAD, [MOMENT]]),
        (pa.array([[1.0, float("nan")]]), [[1.0]]),
        (pa.array([[[1]], None]), [Unsupported, None]),
        (pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int8())), [Unsupported, None]),
        (pa.array([{"w": 1}, None]), [Unsupported, None]),
        (pa.array([[{"w": 1}], None]), [Unsupported, None]),
        (pa.array([1, None], pa.time64("us")), [Unsupported, None]),
        (pa.array([1], pa.duration("s")), [Unsupported]),
        (pa.array([b"text", None]), [Unsupported, None]),
        (pa.array([b"x" * 65], pa.binary(65)), [Unsupported]),
        (pa.array([{"lat": 1, "lon": 2}, None]), [{"lat": 1.0, "lon": 2.0}, None]),
        (pa.array([{"lon": 2.5, "lat": None}, {"lon": None, "lat": None}]), [BAD, None]),
        (pa.array([[{"lat": 1.5, "lon": 2.5}]]), [[{"lat": 1.5, "lon": 2.5}]]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_values_of_every_type(tmp_path: Path, values: pa.Array, expected: list[Any]) -> None:
    for name, options in (("a.parquet", {}), ("b.parquet", {"store_schema": False, "row_group_size": 1})):
        got = cells(tmp_path / name, values, **options)
        assert len(got) == len(expected)
        for value, wanted in zip(got, expected, strict=True):
            if name == "b.parquet" and (pa.types.is_duration(values.type) or values.type == pa.bool8()):
                assert isinstance(value, int | None)  # known by Arrow's own schema alone
            elif isinstance(wanted, type):
                assert isinstance(value, wanted)
            else:
                assert (type(value), value) == (type(wanted), wanted)


def dictionary_with_bad_text() -> pa.Array:
    texts = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"a\xff"]).buffers())
    return pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), texts)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_bytes_that_are_no_text_are_bad_cells_of_their_rows(tmp_path: Path, kind: pa.DataType) -> None:
    binary = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}.get(kind, pa.binary_view())
    raw = pa.array([b"gr\xfcn", b"ok", None, b"\xed\xa0\x80"], binary)
    first, second, third, fourth = cells(
        tmp_path / "m.parquet", pa.Array.from_buffers(kind, 4, raw.buffers())
    )
    assert (second, third) == ("ok", None)
    assert isinstance(first, BadCell)
    assert isinstance(fourth, BadCell)
    assert "no text in UTF-8" in first.problem
    (known, bad, empty) = cells(tmp_path / "d.parquet", dictionary_with_bad_text(), store_schema=False)
    assert (known, type(bad), empty) == ("ok", BadCell, None)
    listed = pa.ListArray.from_arrays([0, 2, 4], pa.Array.from_buffers(kind, 4, raw.buffers()))
    assert [type(cell) for cell in cells(tmp_path / "l.parquet", listed)] == [BadCell, BadCell]


def test_a_byte_that_is_no_text_names_file_row_and_column(tmp_path: Path) -> None:
    raw = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a\xff", b"ok"]).buffers())
    source = ManifestSource(write(tmp_path / "m.parquet", with_images(raw)))
    assert source.survey().schema == {"c": K.KEYWORD}
    assert payloads(source) == {"1.jpg": {"c": "ok"}}
    (reject,) = rejects(source)
    assert (reject.id, reject.reason) == ("0.jpg", "PAYLOAD_INVALID")
    assert reject.message == "row 1: column 'c' holds b'a\\xff', which is no text in UTF-8: byte 2"


SPARK = [
    (datetime(9999, 12, 31), "9999-12-31T00:00:00Z"),
    (datetime(1000, 1, 1), "1000-01-01T00:00:00Z"),
    (datetime(1650, 3, 4, 5, 6, 7, 89), "1650-03-04T05:06:07.000089Z"),
    (None, None),
    (datetime(1, 1, 1), "0001-01-01T00:00:00Z"),
]


@pytest.mark.parametrize("options", [{}, {"store_schema": False}, {"row_group_size": 2}])
def test_moments_of_spark_are_exact(tmp_path: Path, options: dict[str, Any]) -> None:
    values = [value for value, _ in SPARK]
    columns = pa.table(
        {
            "at": pa.array(values, pa.timestamp("us")),
            "all": pa.array([values[:2], None, [], values, [None]], pa.list_(pa.timestamp("us"))),
            "plain": pa.array([1] * 5, pa.int64()),
        }
    )
    path = write(tmp_path / "m.parquet", columns, use_deprecated_int96_timestamps=True, **options)
    rows = [row.cells for row in parquet_rows(path)]
    expected = [text for _, text in SPARK]
    assert [row.get("at") for row in rows] == expected
    assert [row.get("all") for row in rows] == [
        expected[:2],
        None,
        [],
        [text for text in expected if text],
        [],
    ]


def int96(path: Path, day: int, nanoseconds: int) -> Path:
    """Write a file whose INT96 moment is replaced, in place, by a Julian day and nanoseconds of that day."""
    marker = datetime(2001, 2, 3, 4, 5, 6)
    columns = pa.table(with_images(pa.array([marker, None, datetime(2020, 1, 1)], pa.timestamp("us"))))
    write(
        path,
        columns,
        use_deprecated_int96_timestamps=True,
        use_dictionary=False,
        compression="none",
        write_statistics=False,
    )
    old = struct.pack("<qI", (4 * 3600 + 5 * 60 + 6) * 10**9, 2_451_944)
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, struct.pack("<qI", nanoseconds, day)))
    return path


def test_moments_of_spark_that_no_year_holds_are_rejects(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    assert [row.cells.get("c") for row in parquet_rows(int96(path, 2_440_588, 1_999))] == [
        "1970-01-01T00:00:00.000001Z",
        None,
        "2020-01-01T00:00:00Z",
    ]
    # The last of them is 2^64 microseconds from 1970, which a reader in microseconds takes for 1970.
    for day in (1, 2**31 - 1, 2**32 - 1, 2_440_588 + 213_503_982):
        source = ManifestSource(int96(path, day, (2**64 - 213_503_982 * 86_400 * 10**6) * 1000))
        (reject,) = rejects(source)
        assert reject.message.startswith("row 1: column 'c' holds the moment ")
        assert payloads(source)["2.jpg"] == {"c": "2020-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    "mark",
    [
        {"org.apache.spark.version": "2.4.8"},
        {"org.apache.spark.version": "3.5.0", "org.apache.spark.legacyDateTime": ""},
        {"org.apache.spark.version": "3.5.0", "org.apache.spark.legacyINT96": ""},
    ],
)
def test_moments_of_the_calendar_of_an_older_spark_are_rejects(tmp_path: Path, mark: dict[str, str]) -> None:
    columns = pa.table(
        {
            "day": pa.array([date(1582, 10, 14), date(1582, 10, 15)]),
            "at": pa.array([datetime(1000, 1, 1), datetime(1650, 1, 1)], pa.timestamp("us")),
        }
    )
    path = tmp_path / "m.parquet"
    write(path, columns.replace_schema_metadata(mark), use_deprecated_int96_timestamps=True)
    first, second = (row.cells for row in parquet_rows(path))
    assert all(isinstance(cell, BadCell) and "CORRECTED" in cell.problem for cell in first.values())
    assert second == {"day": "1582-10-15", "at": "1650-01-01T00:00:00Z"}
    write(path, columns.replace_schema_metadata({"org.apache.spark.version": "3.5.0"}))
    assert next(parquet_rows(path)).cells == {"day": "1582-10-14", "at": "1000-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pa.array([Decimal(10**37), Decimal(7)], pa.decimal128(38, 0)), [str(10**37), "7"]),
        (pa.array([Decimal(7), Decimal(8)], pa.decimal128(38, 10)), ["7", "8"]),
        (pa.array([7.0, 8.0]), ["7", "8"]),
        (pa.array([2**64 - 1, 8], pa.uint64()), [str(2**64 - 1), "8"]),
        (pa.array([UUID(int=7).bytes, UUID(int=8).bytes], pa.uuid()), [str(UUID(int=7)), str(UUID(int=8))]),
        (pa.array([b"\x07\xff", b"\x08\xff"], pa.binary(2)), ["07ff", "08ff"]),
        (pa.array([b"a", b"\xc3\xa9"]), ["a", "é"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
    ],
)
def test_ids_of_every_type(tmp_path: Path, ids: pa.Array, expected: list[str]) -> None:
    source = ManifestSource(write(tmp_path / "m.parquet", {"id": ids, "image": ["1.jpg", "2.jpg"]}))
    assert list(payloads(source)) == expected


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        (pa.array([7.5]), "7.5"),
        (pa.array([2.0**53]), "9007199254740992.0, a float that does not tell all digits"),
        (pa.array([Decimal("7.50")], pa.decimal128(8, 2)), "Decimal('7.50')"),
        (pa.array([b"\xff"]), "b'\\xff', which is no text in UTF-8"),
        (pa.array([{"a": 1}]), "a value of the type struct<a: int64>"),
        (pa.array([True]), "True"),
        (pa.array([[1]]), "[1]"),
    ],
)
def test_what_cannot_be_an_id_is_told(tmp_path: Path, ids: pa.Array, found: str) -> None:
    (reject,) = rejects(ManifestSource(write(tmp_path / "m.parquet", {"id": ids, "image": ["1.jpg"]})))
    assert reject.reason == "ID_INVALID"
    assert reject.message.startswith(f"row 1: column 'id' holds {found}")


def test_columns_that_are_no_fields_are_left_out_with_a_remark(tmp_path: Path) -> None:
    columns = {
        "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int8())),
        "size": pa.array([None, {"w": 1}]),
        "time": pa.array([1, 2], pa.time32("s")),
        "took": pa.array([1, 2], pa.duration("us")),
        "blob": pa.array([b"\xff", None]),
        "boxes": pa.array([[[1, 2]], None]),
        "empty": pa.nulls(2),
    }
    source = ManifestSource(write(tmp_path / "m.parquet", {**with_images([1, 2]), **columns}))
    facts = source.survey()
    assert facts.schema == {"c": K.INTEGER}
    assert [note.split("'")[1] for note in facts.notes] == sorted(columns.keys() - {"empty"})
    assert "column 'map' is left out: it holds a value of the type map<" in " ".join(facts.notes)
    assert payloads(source) == {"0.jpg": {"c": 1}, "1.jpg": {"c": 2}}
    assert source.survey(["c"]).notes == ()
    with pytest.raises(SourceError, match=r"has no payload column 'size' with values; there are: c"):
        ManifestSource(tmp_path / "m.parquet", schema={"size": K.KEYWORD}).survey()


def test_data_frames_of_pandas_are_read(tmp_path: Path) -> None:
    table = pa.table(
        {**with_images([1, 2]), "__index_level_0__": [5, 6], "cat": pa.array([None, "x"]).dictionary_encode()}
    ).replace_schema_metadata(
        {"pandas": json.dumps({"index_columns": ["__index_level_0__"]}), "huggingface": '{"info": {}}'}
    )
    source = ManifestSource(write(tmp_path / "m.parquet", table))
    assert source.survey().notes == (
        "column '__index_level_0__' is left out: it is the index of a data frame",
    )
    assert payloads(source) == {"0.jpg": {"c": 1}, "1.jpg": {"c": 2, "cat": "x"}}
    assert source.survey(["__index_level_0__"]).schema == {"__index_level_0__": K.INTEGER}


class Period(pa.ExtensionType):  # type: ignore[misc]  # pyarrow has no types
    """Months since 1970, as pandas writes them."""

    def __init__(self) -> None:
        super().__init__(pa.int64(), "pandas.period")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"{}"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> Period:
        return cls()


def test_numbers_that_only_other_programs_understand_are_left_out(tmp_path: Path) -> None:
    """A reader that does not know the type sees plain numbers."""
    months = pa.ExtensionArray.from_storage(Period(), pa.array([648, None]))
    named = {b"ARROW:extension:name": b"geo.wkt"}
    fields = [
        pa.field("image", pa.string()),
        pa.field("month", months.type),
        pa.field("months", pa.list_(months.type)),
        pa.field("shape", pa.string(), metadata=named),
        pa.field("point", pa.int64(), metadata=named),
        pa.field("id", pa.uuid()),
    ]
    listed = pa.ListArray.from_arrays([0, 1, 2], months)
    ids = pa.array([UUID(int=7).bytes, UUID(int=8).bytes], pa.uuid())
    arrays = [pa.array(["1.jpg", "2.jpg"]), months, listed, pa.array(["POINT", None]), pa.array([1, 2]), ids]
    source = ManifestSource(write(tmp_path / "m.parquet", pa.table(arrays, pa.schema(fields))))
    facts = source.survey()
    assert facts.schema == {"shape": K.KEYWORD}
    assert [note.split("'")[1] for note in facts.notes] == ["month", "months", "point"]
    assert "a value of the type pandas.period" in facts.notes[0]
    assert payloads(source)[str(UUID(int=7))] == {"shape": "POINT"}
    pa.register_extension_type(Period())
    try:
        assert source.survey().schema == {"shape": K.KEYWORD}
    finally:
        pa.unregister_extension_type("pandas.period")


def test_columns_of_one_name_are_refused_unless_others_are_chosen(tmp_path: Path) -> None:
    table = pa.table([pa.array(["1.jpg"]), pa.array([1]), pa.array([2]), pa.array([3])], list("xaab"))
    path = write(tmp_path / "m.parquet", table.rename_columns(["image", "a", "a", "b"]))
    with pytest.raises(SourceError, match="has column 'a' twice"):
        ManifestSource(path).survey()
    assert ManifestSource(path).survey(["b"]).schema == {"b": K.INTEGER}
    with pytest.raises(SourceError, match="has column 'a' twice"):
        ManifestSource(path).survey(["a"])
    with pytest.raises(SourceError, match="has no column 'z'; there are: a, a, b, image"):
        ManifestSource(path).survey(["z"])


def test_a_name_with_a_dot_is_a_name(tmp_path: Path) -> None:
    columns = {**with_images([1]), "c.d": ["x"], "s": pa.array([{"x": 1}])}
    source = ManifestSource(write(tmp_path / "m.parquet", columns))
    assert source.survey(["c"]).schema == {"c": K.INTEGER}
    assert payloads(source) == {"0.jpg": {"c": 1}}
    assert source.survey(["c.d"]).schema == {"c.d": K.KEYWORD}
    assert payloads(source) == {"0.jpg": {"c.d": "x"}}


def test_a_column_that_arrow_cannot_read_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    columns = {**with_images([1, 2, 3]), "kind": dictionary_with_bad_text()}
    source = ManifestSource(write(tmp_path / "m.parquet", columns))
    with pytest.raises(
        SourceError, match=r"column 'kind': Invalid UTF8 payload; `columns` can choose others"
    ):
        source.survey()
    assert source.survey(["c"]).schema == {"c": K.INTEGER}
    assert len(payloads(source)) == 3


@pytest.mark.parametrize("content", [b"", b"no parquet", b"PAR1PAR1"])
def test_what_is_no_parquet_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.parquet").write_bytes(content)
    with pytest.raises(SourceError, match=r"m\.parquet cannot be read as Parquet: ") as raised:
        ManifestSource(tmp_path / "m.parquet").survey()
    assert "\n" not in str(raised.value)


def test_files_without_rows_or_columns_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "m.parquet", {"image": pa.array([], pa.string())})
    with pytest.raises(SourceError, match="has no rows"):
        ManifestSource(path).survey()
    for columns in ({"n": [1]}, {}, {"id": ["a"], "n": pa.nulls(1)}):
        with pytest.raises(SourceError, match=r"has no (column 'image'|rows)"):
            ManifestSource(write(tmp_path / "m.parquet", columns)).survey()
