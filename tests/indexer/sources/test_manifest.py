"""Manifests of all formats as items, and the kind of source that a path is."""

from __future__ import annotations

import json
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from indexer.errors import SourceError
from indexer.rejects import Reject
from indexer.sources.base import SourceItem
from indexer.sources.folder import FolderSource
from indexer.sources.manifest import ManifestSource
from indexer.sources.source_factory import open_source
from vector_store.types import FieldType as K


def write(tmp_path: Path, text: str | bytes, name: str = "m.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)
    return path


def payloads(source: ManifestSource) -> dict[str, Any]:
    return {item.id: dict(item.payload) for item in source.items() if isinstance(item, SourceItem)}


def rejects(source: ManifestSource) -> list[Reject]:
    return [item for item in source.items() if isinstance(item, Reject)]


def test_csv_types_are_found_and_empty_cells_are_absent(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "id,image,price,stock,sale,since,tags,sku,note\n"
        'a,1.jpg,9.5,3,True,2024-05-01,"[""red"",""blue""]",007,\n'
        "b,x/2.jpg,10,,false,2024-05-02T10:00:00Z,,008,  \n",
    )
    source = ManifestSource(path)
    facts = source.survey()
    assert facts.total == 2
    assert facts.notes == ()
    assert facts.schema == {
        "price": K.FLOAT,
        "stock": K.INTEGER,
        "sale": K.BOOL,
        "since": K.DATETIME,
        "tags": K.KEYWORD,
        "sku": K.KEYWORD,
    }
    assert payloads(source) == {
        "a": {
            "price": 9.5,
            "stock": 3,
            "sale": True,
            "since": "2024-05-01",
            "tags": ["red", "blue"],
            "sku": "007",
        },
        "b": {"price": 10.0, "sale": False, "since": "2024-05-02T10:00:00Z", "sku": "008"},
    }
    second = list(source.items())[1]
    assert isinstance(second, SourceItem)
    assert second.path == tmp_path / "x/2.jpg"


def test_a_byte_order_mark_quotes_and_line_ends_of_spreadsheets_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, '\ufeffimage;name\r\n"1.jpg";"two\r\nlines; ""quoted"""\r\n2.jpg;x\r\n')
    assert payloads(ManifestSource(path)) == {
        "1.jpg": {"name": 'two\r\nlines; "quoted"'},
        "2.jpg": {"name": "x"},
    }


def test_tab_separated_files_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, "image\tn\n1.jpg\t1\n", "m.tsv")
    assert payloads(ManifestSource(path)) == {"1.jpg": {"n": 1}}


def test_rows_with_too_few_or_many_cells_are_rejected_rather_than_guessed(tmp_path: Path) -> None:
    path = write(tmp_path, "image,n\n1.jpg,1\n2.jpg\n\n3.jpg,3,4\n4.jpg,4\n")
    source = ManifestSource(path)
    assert source.survey().total == 4
    assert payloads(source) == {"1.jpg": {"n": 1}, "4.jpg": {"n": 4}}
    assert [(r.reason, r.message) for r in rejects(source)] == [
        ("ROW_MALFORMED", "row 3: the row has 1 cells, the first line 2"),
        ("ROW_MALFORMED", "row 5: the row has 3 cells, the first line 2"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("image\n", "has no rows"),
        ("photo,n\n1.jpg,1\n", r"no column 'image' with values \(columns: n, photo\)"),
        ("image,n\n,1\n", "no column 'image' with values"),
        ("image,n,n\n1.jpg,1,2\n", "column 'n' twice"),
        ("image,,n\n1.jpg,1,2\n", "column 2 has no name"),
        ('image,n\n"1.jpg,1\n', "line 2"),
        ("image,n\n1.jpg," + "x" * 200_000 + "\n", "line 2"),
        ("image,n\n1.jpg," + "x" * 2_000_000 + "\n", "longer than 1 MiB"),
        ("image,n\n1.jpg,größe\n".encode("latin-1"), r"not UTF-8: line 2 has byte 0xf6"),
        ("image,n\n1.jpg,1\n".encode("utf-16"), "UTF-8"),
        ("image,n\n1.jpg,1\n".encode("utf-16-le"), "UTF-8"),
    ],
)
def test_manifests_that_cannot_be_used_say_why(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        ManifestSource(write(tmp_path, text)).survey()


def test_unknown_kinds_missing_files_and_missing_roots_are_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"\.csv.*\.parquet"):
        ManifestSource(tmp_path / "m.xlsx")
    with pytest.raises(SourceError, match="does not exist"):
        ManifestSource(tmp_path / "m.csv").survey()
    with pytest.raises(SourceError, match="is no folder"):
        ManifestSource(write(tmp_path, "image\n1.jpg\n"), root=tmp_path / "nowhere").survey()


def test_a_root_of_its_own_and_an_image_base(tmp_path: Path) -> None:
    (tmp_path / "pics").mkdir()
    path = write(tmp_path, "image\n1.jpg\n")
    (item,) = ManifestSource(path, root=tmp_path / "pics", image_base="s3://bucket/").items()
    assert isinstance(item, SourceItem)
    assert item.path == tmp_path / "pics/1.jpg"
    assert item.image == "s3://bucket/1.jpg"


def test_given_types_and_text_fields(tmp_path: Path) -> None:
    path = write(tmp_path, 'image,sku,title,place\n1.jpg,12,Red dress,"52.5,13.4"\n')
    source = ManifestSource(path, schema={"sku": K.KEYWORD, "place": K.GEO}, text_fields=("title",))
    assert source.survey().schema == {"sku": K.KEYWORD, "title": K.TEXT, "place": K.GEO}
    assert payloads(source)["1.jpg"] == {
        "sku": "12",
        "title": "Red dress",
        "place": {"lat": 52.5, "lon": 13.4},
    }
    with pytest.raises(SourceError, match=r"no payload column 'tytle'.*place, sku, title"):
        ManifestSource(path, text_fields=("tytle",)).survey()


def test_json_lines(tmp_path: Path) -> None:
    rows = [
        {"id": 7, "image": "1.jpg", "n": 1, "where": {"lat": 1, "lon": 2}, "tags": ["a"], "gone": None},
        {"image": "2.jpg", "n": 2.5, "tags": []},
    ]
    text = (
        "\n".join(json.dumps(row) for row in rows) + "\n\n[1]\n{broken\n" + '{"image": "3.jpg", "n": NaN}\n'
    )
    source = ManifestSource(write(tmp_path, text, "m.jsonl"))
    facts = source.survey()
    assert facts.total == 5
    assert facts.schema == {"n": K.FLOAT, "where": K.GEO, "tags": K.KEYWORD}
    assert payloads(source) == {
        "7": {"n": 1.0, "where": {"lat": 1, "lon": 2}, "tags": ["a"]},
        "2.jpg": {"n": 2.5, "tags": []},
    }
    assert [reject.reason for reject in rejects(source)] == ["ROW_MALFORMED"] * 3
    assert [reject.message.partition(":")[0] for reject in rejects(source)] == ["row 4", "row 5", "row 6"]


def test_a_json_line_of_ten_megabytes_is_rejected_alone(tmp_path: Path) -> None:
    big = json.dumps({"image": "1.jpg", "text": "x" * 10_000_000})
    source = ManifestSource(write(tmp_path, f'{big}\n{{"image": "2.jpg"}}\n', "m.jsonl"))
    assert source.survey().total == 2
    assert list(payloads(source)) == ["2.jpg"]
    assert "1 MiB" in rejects(source)[0].message


def test_json_objects_that_are_no_places_end_the_survey_with_row_and_column(tmp_path: Path) -> None:
    path = write(tmp_path, '{"image": "1.jpg"}\n{"image": "2.jpg", "size": {"w": 1}}\n', "m.jsonl")
    with pytest.raises(SourceError, match="row 2: column 'size' holds an object that is no place"):
        ManifestSource(path).survey()


@pytest.mark.parametrize("row", [{"id": "a", "image": 3}, {"id": "a"}, {"id": "a", "image": " "}])
def test_rows_without_a_usable_image_are_rejected(tmp_path: Path, row: dict[str, Any]) -> None:
    text = json.dumps(row) + '\n{"id": "b", "image": "1.jpg"}\n'
    (reject,) = rejects(ManifestSource(write(tmp_path, text, "m.jsonl")))
    assert (reject.id, reject.reason) == ("a", "ROW_MALFORMED")


def test_parquet(tmp_path: Path) -> None:
    import pyarrow as pa

    path = write_parquet(
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
            "zoned": "2024-05-01T12:00:00+00:00",
            "tags": ["a", "b"],
            "where": {"lat": 1.0, "lon": 2.0},
            "kind": "x",
        },
        "2": {"at": "1970-01-01T00:00:01Z", "tags": [], "weight": 2.0, "kind": "y"},
    }


def test_damaged_parquet_and_bytes_in_it_are_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="as Parquet"):
        ManifestSource(write(tmp_path, "no parquet", "m.parquet")).survey()
    path = write_parquet(tmp_path / "b.parquet", {"image": ["1.jpg"], "raw": [b"\xff"]})
    with pytest.raises(SourceError, match="row 1: column 'raw' holds a value of type bytes"):
        ManifestSource(path).survey()


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match=r"pip install 'composed-image-retrieval\[indexer\]'"):
        ManifestSource(write(tmp_path, "", "m.parquet")).survey()


def test_rejects_go_beside_the_manifest(tmp_path: Path) -> None:
    assert ManifestSource(tmp_path / "m.csv").rejects_path == tmp_path / "m.csv.rejects.jsonl"


def test_folders_and_files(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("image\n1.jpg\n")
    assert isinstance(open_source(tmp_path), FolderSource)
    assert isinstance(open_source(tmp_path / "m.csv"), ManifestSource)


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="for manifests only"):
        open_source(tmp_path, text_fields=("title",))


def test_companions_in_a_listing_are_passed_over(tmp_path: Path) -> None:
    names = [
        "a.jpg",
        "._a.jpg",
        "sub/Thumbs.db",
        "@eaDir/a.jpg/x.jpg",
        ".named/b.jpg",
        "https://shop/._c.jpg",
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps({"image": name}) + "\n" for name in names))
    source = ManifestSource(path)
    facts = source.survey()
    assert [item.id for item in source.items()] == ["a.jpg", ".named/b.jpg"]
    assert facts.total == 2
    assert facts.passed_over.counts == {"system_file": 4}
    assert "._a.jpg" in facts.passed_over.text
