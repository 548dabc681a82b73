"""Manifests of all formats as items, and the kind of source that a path is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cir.fields import FieldType as K
from indexer.errors import SourceError
from indexer.rejects import Reject
from indexer.sources.base import SourceItem
from indexer.sources.folder import FolderSource
from indexer.sources.manifest import ManifestSource
from indexer.sources.source_factory import open_source


def write(tmp_path: Path, text: str | bytes, name: str = "m.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
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
        ('image,n\n"1.jpg,1\n', "line 2"),
        ('image,n\n1.jpg,"' + "x" * 2_000_000 + '\n2.jpg,"', "line 2: longer than 1 MiB"),
        ("x" * 2_000_000 + "\n", "line 1 is longer than 1 MiB"),
        ("image,größe\n1.jpg,1\n".encode("latin-1"), r"not UTF-8: line 1 has byte 0xf6"),
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
        "\n".join(json.dumps(row) for row in rows)
        + "\n\n[1]\n{broken\n"
        + '{"image": "3.jpg", "n": Infinity}\n'
    )
    source = ManifestSource(write(tmp_path, text, "m.jsonl"))
    facts = source.survey()
    assert facts.total == 5
    assert facts.schema == {"n": K.FLOAT, "where": K.GEO, "tags": K.KEYWORD}
    assert payloads(source) == {
        "7": {"n": 1.0, "where": {"lat": 1, "lon": 2}, "tags": ["a"]},
        "2.jpg": {"n": 2.5, "tags": []},
    }
    assert [reject.reason for reject in rejects(source)] == ["ROW_MALFORMED"] * 2 + ["PAYLOAD_INVALID"]
    assert [reject.message.partition(":")[0] for reject in rejects(source)] == ["row 4", "row 5", "row 6"]


def test_a_json_line_of_ten_megabytes_is_rejected_alone(tmp_path: Path) -> None:
    big = json.dumps({"image": "1.jpg", "text": "x" * 10_000_000})
    source = ManifestSource(write(tmp_path, f'{big}\n{{"image": "2.jpg"}}\n', "m.jsonl"))
    assert source.survey().total == 2
    assert list(payloads(source)) == ["2.jpg"]
    assert "1 MiB" in rejects(source)[0].message


def test_columns_of_objects_are_left_out_and_single_objects_are_rejects(tmp_path: Path) -> None:
    rows = [
        {"image": "1.jpg", "size": {"w": 1}, "boxes": [[1, 2]], "n": 1, "at": {"lat": 1, "lon": 2}},
        {"image": "2.jpg", "size": {"w": 2}, "n": {"value": 2}},
        {"image": "3.jpg", "at": "Berlin"},
    ]
    source = ManifestSource(write(tmp_path, "\n".join(map(json.dumps, rows)), "m.jsonl"))
    facts = source.survey()
    assert facts.schema == {"n": K.INTEGER, "at": K.GEO}
    assert facts.notes == (
        "column 'boxes' is left out: it holds a list of lists (row 1), which no payload field can",
        "column 'size' is left out: it holds an object (row 1), which no payload field can",
    )
    assert payloads(source) == {"1.jpg": {"n": 1, "at": {"lat": 1, "lon": 2}}}
    assert [(r.id, r.reason, r.message) for r in rejects(source)] == [
        ("2.jpg", "PAYLOAD_INVALID", "row 2: column 'n' holds an object, which no payload field can"),
        (
            "3.jpg",
            "PAYLOAD_INVALID",
            "row 3: column 'at' holds 'Berlin'; expected a place such as {\"lat\": 52.5, \"lon\": 13.4}",
        ),
    ]


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_a_byte_that_is_not_utf_8_is_the_reject_of_its_row(tmp_path: Path, name: str) -> None:
    texts = {
        "m.csv": "image,n\n1.jpg,grösse\nß.jpg,x\n3.jpg,x\n",
        "m.jsonl": '\n{"image":"1.jpg","n":"grösse"}\n{"image":"ß.jpg","n":"x"}\n{"image":"3.jpg","n":"x"}\n',
    }
    source = ManifestSource(write(tmp_path, texts[name].encode("latin-1"), name))
    assert source.survey().total == 3
    assert payloads(source) == {"3.jpg": {"n": "x"}}
    first, second = rejects(source)
    assert first.message.startswith("row 2: column 'n' holds 'gr\\udcf6sse', which is no text in UTF-8")
    assert second.message.startswith("row 3: column 'image' holds '\\udcdf.jpg', which is no text in UTF-8")


def test_half_a_surrogate_pair_is_the_reject_of_its_row(tmp_path: Path) -> None:
    rows = [{"image": "caf\udce9.jpg"}, {"image": "1.jpg", "t": "\ud800"}, {"image": "2.jpg", "id": "\udfff"}]
    text = "\n".join(map(json.dumps, [*rows, {"image": "3.jpg", "caf\udce9": 1}]))
    source = ManifestSource(write(tmp_path, text, "m.jsonl"))
    assert source.survey().notes == ("column 'caf\\udce9' is left out: a field name must be valid Unicode",)
    assert payloads(source) == {"3.jpg": {}}
    assert [reject.message.partition(" holds")[0] for reject in rejects(source)] == [
        "row 1: column 'image'",
        "row 2: column 't'",
        "row 3: column 'id'",
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('"2.jpg"x,1', "',' expected after '\"'"),
        ("2.jpg," + "x" * 2_000_000, "the line is longer than 1 MiB"),
        ('2.jpg,"' + "x" * 2_000_000 + '"', "the line is longer than 1 MiB"),
        ("2.jpg,a\0b", "column 'n' holds a zero byte"),
        ("2.jpg,[1e400]", "column 'n' holds the number '1e400', which is larger than any float of 64 bits"),
        ('2.jpg,"[""a"", {""b"": 1}]"', "column 'n' holds a list with an object, which no payload field can"),
    ],
    ids=["quotes", "long", "long and quoted", "zero byte", "infinite", "object"],
)
def test_a_bad_row_of_a_csv_is_rejected_alone(tmp_path: Path, line: str, problem: str) -> None:
    source = ManifestSource(write(tmp_path, f"image,n\n1.jpg,1\n{line}\n3.jpg,3\n"))
    assert source.survey().total == 3
    assert list(payloads(source)) == ["1.jpg", "3.jpg"]
    (reject,) = rejects(source)
    assert reject.message == f"row 3: {problem}"


def test_a_long_cell_is_read(tmp_path: Path) -> None:
    source = ManifestSource(write(tmp_path, "image,n\n1.jpg," + "x" * 200_000 + "\n"))
    assert payloads(source) == {"1.jpg": {"n": "x" * 200_000}}


def test_codes_that_look_like_numbers_stay_texts(tmp_path: Path) -> None:
    source = ManifestSource(write(tmp_path, "image,sku\n1.jpg,12E12\n2.jpg,7E5\n3.jpg,3E8\n"))
    assert source.survey().schema == {"sku": K.KEYWORD}
    assert [payload["sku"] for payload in payloads(source).values()] == ["12E12", "7E5", "3E8"]
    assert "number or code (row 2)" in source.survey().notes[0]


def test_columns_without_a_name_are_left_out(tmp_path: Path) -> None:
    source = ManifestSource(write(tmp_path, ",image,n,,\n0,1.jpg,1,,\n1,2.jpg,2,,x\n"))
    assert source.survey().notes == (
        "column '' is left out: a field name has 1 to 128 characters, this one has 0",
    )
    assert payloads(source) == {"1.jpg": {"n": 1}, "2.jpg": {"n": 2}}


@pytest.mark.parametrize(
    ("cell", "item_id"),
    [
        ("108775015.0", "108775015"),
        ("9007199254740993", "9007199254740993"),
        ("9007199254740993.0", "9007199254740993"),
        ("12345678901234567890123", "12345678901234567890123"),
        ('" a b "', " a b "),
        ('""', "1.jpg"),
        ("NaN", "1.jpg"),
        ("null", "1.jpg"),
    ],
)
def test_whole_numbers_are_ids(tmp_path: Path, cell: str, item_id: str) -> None:
    source = ManifestSource(write(tmp_path, f'{{"id": {cell}, "image": "1.jpg"}}', "m.jsonl"))
    assert list(payloads(source)) == [item_id]


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("1.5", "1.5"),
        ("1e22", "1e+22, a float that does not tell all digits"),
        ("true", "True"),
        ('{"a": 1}', "an object"),
        ("[1]", "[1]"),
        ("1e999", "the number '1e999', which is larger than any float of 64 bits"),
    ],
)
def test_what_cannot_be_an_id_is_told(tmp_path: Path, cell: str, found: str) -> None:
    (reject,) = rejects(ManifestSource(write(tmp_path, f'{{"id": {cell}, "image": "1.jpg"}}', "m.jsonl")))
    assert (reject.reason, reject.image) == ("ID_INVALID", "1.jpg")
    assert reject.message.startswith(f"row 1: column 'id' holds {found}")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"image": "1.jpg", "n": 1, "n": 2}', "the line has the name 'n' twice in one object"),
        ('{"image": "1.jpg", "n": ' + "[" * 100_000, "the line is no JSON: it nests too deeply"),
        ('{"image": "1.jpg", "n": [1, -Infinity]}', "column 'n' holds -inf; expected a finite number"),
        ('{"image": "1.jpg", "n": ' + "9" * 5000 + "}", "column 'n' holds an integer of 5000 digits"),
        ('{"image": "1.jpg", "n": {"lat": 1, "lat": 2}}', "column 'n' holds the name 'lat' twice"),
        ('{"image": "1.jpg", "n": {"lat": 1}}', "column 'n' holds an object"),
        (
            '{"image": {"bytes": "abc", "path": "1.jpg"}}',
            "column 'image' holds an object; expected a file path or",
        ),
    ],
    ids=["doubled", "deep", "infinite", "digits", "doubled inside", "object", "bytes"],
)
def test_a_bad_line_of_json_is_rejected_alone(tmp_path: Path, line: str, problem: str) -> None:
    text = f'{{"image": "0.jpg", "n": 1}}\n{line}\n{{"image": {{"bytes": null, "path": "2.jpg"}}}}\n'
    source = ManifestSource(write(tmp_path, text, "m.jsonl"))
    assert source.survey().total == 3
    assert payloads(source) == {"0.jpg": {"n": 1}, "2.jpg": {}}
    (reject,) = rejects(source)
    assert reject.message.startswith(f"row 2: {problem}")


CHOSEN = {
    "m.csv": "id,image,a,a,b\nx,1.jpg,1,2,3\n",
    "m.jsonl": '{"id": "x", "image": "1.jpg", "a": Infinity, "b": 3}\n',
}


@pytest.mark.parametrize("name", CHOSEN)
def test_columns_are_chosen_and_the_others_do_not_matter(tmp_path: Path, name: str) -> None:
    source = ManifestSource(write(tmp_path, CHOSEN[name], name))
    assert source.survey(["b"]).schema == {"b": K.INTEGER}
    assert payloads(source) == {"x": {"b": 3}}
    assert source.survey(["id"]).schema == {}
    assert payloads(source) == {"x": {}}
    with pytest.raises(SourceError, match=r"has no column 'c'; there are: a, .*b, id, image"):
        source.survey(["b", "c"])


@pytest.mark.parametrize("row", [{"id": "a", "image": 3}, {"id": "a"}, {"id": "a", "image": " "}])
def test_rows_without_a_usable_image_are_rejected(tmp_path: Path, row: dict[str, Any]) -> None:
    text = json.dumps(row) + '\n{"id": "b", "image": "1.jpg"}\n'
    (reject,) = rejects(ManifestSource(write(tmp_path, text, "m.jsonl")))
    assert (reject.id, reject.reason) == ("a", "ROW_MALFORMED")


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match=r"the extra \[parquet\] with: pip install"):
        ManifestSource(write(tmp_path, "", "m.parquet")).survey()


def test_rejects_go_beside_the_manifest(tmp_path: Path) -> None:
    assert ManifestSource(tmp_path / "m.csv").rejects_path("shop") == tmp_path / "m.csv.shop.rejects.jsonl"


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


def test_names_with_spaces_around_are_those_of_the_folder(tmp_path: Path) -> None:
    names = [" b.jpg", "\u3000a.jpg", "c.jpg\u00a0"]
    lines = "".join(json.dumps({"image": name, "id": name}) + "\n" for name in names)
    source = ManifestSource(write(tmp_path, lines, "m.jsonl"))
    assert [(item.id, Path(item.image).name) for item in source.items() if isinstance(item, SourceItem)] == [
        (name, name) for name in names
    ]
    # Cells of a CSV are padded by hand and by programs.
    source = ManifestSource(write(tmp_path, "id,image\n a , b.jpg \n"))
    assert [item.id for item in source.items() if isinstance(item, SourceItem)] == ["a"]
