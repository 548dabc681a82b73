"""Manifests of triplets are read and written, dialogues are read, and broken rows are refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from combiner_training.datasets.base import DatasetError, Dialogue, DialogueTurn, Query, Split, as_name
from combiner_training.datasets.cirr import load_cirr
from combiner_training.datasets.fashioniq import CATEGORIES
from combiner_training.datasets.load import Dataset, load_splits
from combiner_training.datasets.triplets import (
    load_dialogues,
    load_triplets,
    manifest_rows,
    splits_in,
)
from tests.combiner_training.datasets.layouts import real, write_cirr, write_fashioniq, write_lines

ROWS: list[Any] = [
    {"image": "c.jpg", "split": "val"},
    {"image": "a.jpg"},
    {"reference": "a.jpg", "text": "in red", "target": "b.jpg", "split": "train"},
    {
        "id": "q",
        "reference": "a.jpg",
        "texts": ["longer", "in blue"],
        "targets": ["c.jpg", "x/d.jpg"],
        "group": ["a.jpg", "c.jpg"],
        "split": "val",
    },
]


def test_a_split_has_its_queries_and_its_gallery(tmp_path: Path) -> None:
    split = load_triplets(write_lines(tmp_path / "shop.jsonl", ROWS), "val")
    assert (split.dataset, split.name) == ("shop", "val")
    group = ("a.jpg", "c.jpg")
    assert split.queries == (Query("q", "a.jpg", ("longer", "in blue"), ("c.jpg", "x/d.jpg"), group),)
    assert split.gallery == ("c.jpg", "a.jpg")
    assert dict(split.paths) == {name: tmp_path / name for name in ("c.jpg", "a.jpg", "x/d.jpg")}


def test_without_a_split_all_rows_are_taken(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "shop.jsonl", ROWS)
    split = load_triplets(path)
    assert (split.name, [query.id for query in split.queries]) == ("all", ["3", "q"])
    assert split.gallery == ("c.jpg", "a.jpg")
    assert splits_in(path) == ("val", "train")


def test_without_image_rows_the_gallery_is_all_that_queries_name(tmp_path: Path) -> None:
    split = load_triplets(write_lines(tmp_path / "shop.jsonl", ROWS[2:]))
    assert split.gallery == ("a.jpg", "b.jpg", "c.jpg", "x/d.jpg")


def test_a_folder_stands_for_its_manifest_and_blank_lines_for_nothing(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "triplets.jsonl", ROWS)
    path.write_text("\ufeff\n" + path.read_text() + "\n", encoding="utf-8")
    assert load_triplets(tmp_path, "val") == load_triplets(path, "val")
    assert splits_in(tmp_path) == ("val", "train")


def test_parquet_says_the_same_as_json_lines(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    lines = load_triplets(write_lines(tmp_path / "shop.jsonl", ROWS), "val")
    pq.write_table(pa.Table.from_pylist(ROWS, schema=_schema(pa)), tmp_path / "shop.parquet")
    assert load_triplets(tmp_path / "shop.parquet", "val") == lines
    (tmp_path / "shop.parquet").write_bytes(b"PAR1 not at all")
    with pytest.raises(DatasetError, match=r"shop\.parquet cannot be read as Parquet"):
        load_triplets(tmp_path / "shop.parquet", "val")
    with pytest.raises(DatasetError, match=r"none\.parquet does not exist"):
        load_triplets(tmp_path / "none.parquet")


def test_a_cell_of_parquet_that_cannot_be_read_names_its_row(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    texts = pa.Array.from_buffers(pa.string(), 2, pa.array([b"in red", b"gr\xfcn"]).buffers())
    names = pa.array(["a.jpg", "b.jpg"])
    path = tmp_path / "shop.parquet"
    pq.write_table(pa.table({"reference": names, "target": names, "text": texts}), path)
    with pytest.raises(DatasetError, match=r"shop\.parquet, row 2 holds a value that cannot be read: .*0xfc"):
        load_triplets(path)
    far = pa.array([0, 2**62], pa.timestamp("us"))
    pq.write_table(pa.table({"reference": names, "target": names, "text": far}), path)
    with pytest.raises(DatasetError, match=r"shop\.parquet, row 1, text"):
        load_triplets(path)
    pq.write_table(pa.table([names, names], ["reference", "reference"]), path)
    with pytest.raises(DatasetError, match=r"shop\.parquet has the column 'reference' twice"):
        load_triplets(path)


def _schema(pa: Any) -> Any:
    texts = pa.list_(pa.string())
    names = ("image", "split", "reference", "text", "target", "id")
    return pa.schema(
        [*((name, pa.string()) for name in names), ("texts", texts), ("targets", texts), ("group", texts)]
    )


def _query(**changes: Any) -> dict[str, Any]:
    row = {"reference": "a.jpg", "text": "in red", "target": "b.jpg"} | changes
    return {name: value for name, value in row.items() if value is not ...}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("not an object", "line 2 is a JSON string; expected an object"),
        (_query(reference=...), "line 2 has no field 'reference'"),
        (_query(text=...), "line 2 has no text; expected text or texts"),
        (_query(texts=["x"]), "line 2 has both 'text' and 'texts'"),
        (_query(targets=["x"]), "line 2 has both 'target' and 'targets'"),
        (_query(text=1), "line 2, text is a JSON number; expected a string"),
        (
            _query(target="../../b.jpg"),
            r"line 2, target is '\.\./\.\./b\.jpg', which is not a usable image name",
        ),
        (_query(target=..., targets=["c.jpg", "c.jpg"]), "line 2, targets has 'c.jpg' a second time"),
        (_query(group="c.jpg"), "line 2, group is a JSON string; expected an array"),
        (_query(colour="red"), "line 2 has the field 'colour'; expected group, id"),
        (_query(id="1"), "ids has '1' a second time as entry 2"),
        ({"image": "C:\\a.jpg"}, "line 2, image is"),
        ({"image": "a.jpg", "text": "x"}, "line 2 has the field 'text'; expected image, split"),
    ],
)
def test_broken_rows_are_told_with_file_and_line(tmp_path: Path, row: object, message: str) -> None:
    path = write_lines(tmp_path / "shop.jsonl", [_query(), row])
    with pytest.raises(DatasetError, match=message) as told:
        load_triplets(path)
    assert str(path) in str(told.value)


def test_broken_files_and_unknown_splits_are_told(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "shop.jsonl", ROWS)
    with pytest.raises(DatasetError, match=r"no split 'test' \(splits: train, val\)"):
        load_triplets(path, "test")
    path.write_text('{"reference": "a.jpg",')
    with pytest.raises(DatasetError, match="line 1 is not JSON"):
        load_triplets(path)
    path.write_text('{"image": "a.jpg"}\n')
    with pytest.raises(DatasetError, match="has no queries"):
        load_triplets(path)
    with pytest.raises(DatasetError, match=r"of no known kind; expected \.jsonl, \.ndjson, \.parquet"):
        load_triplets(tmp_path / "shop.csv")
    with pytest.raises(DatasetError, match=r"none\.jsonl does not exist"):
        load_triplets(tmp_path / "none.jsonl")
    images = [{"image": "a.jpg", "split": "val"}, {"image": "a.jpg"}, {**_query(), "split": "val"}]
    with pytest.raises(DatasetError, match=r"images of split 'val' has 'a\.jpg' a second time"):
        load_triplets(write_lines(path, images), "val")


@given(st.text(alphabet="a./\\: \0\n", max_size=8))
def test_no_name_leaves_its_folder(name: str) -> None:
    root = Path("/data/set")
    try:
        path = root / as_name(name, "here")
    except DatasetError:
        return
    assert ".." not in path.parts
    assert path != root
    assert path.is_relative_to(root)


def written(splits: Sequence[Split], folder: Path) -> Path:
    file = folder / "triplets.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in manifest_rows(splits, folder)))
    return file


def test_queries_groups_and_gallery_come_back_by_their_places(tmp_path: Path) -> None:
    split = load_cirr(write_cirr(tmp_path, "train"), "train")
    back = load_triplets(written([split], tmp_path), "train")
    assert back.gallery == tuple(f"train/{place}.png" for place in ("0/d", "1/a", "2/b", "3/c"))
    assert back.queries[0] == Query(
        "7",
        "train/1/a.png",
        ("one dog only",),
        ("train/2/b.png",),
        ("train/1/a.png", "train/2/b.png", "train/3/c.png"),
    )
    assert set(back.paths.values()) == set(split.paths.values())


def test_several_splits_share_a_manifest(tmp_path: Path) -> None:
    splits = [load_cirr(write_cirr(tmp_path, name), name) for name in ("train", "test1")]
    file = written(splits, tmp_path)
    assert [query.id for query in load_triplets(file, "train").queries] == ["train/7", "train/9"]
    assert [query.targets for query in load_triplets(file, "test1").queries] == [(), ()]


def test_an_exported_fashioniq_is_one_split_of_three_parts(tmp_path: Path) -> None:
    for category in CATEGORIES:
        write_fashioniq(tmp_path, category=category)
    splits = load_splits(Dataset.FASHIONIQ, tmp_path, "val")
    file = written(splits, tmp_path)
    back = load_splits(Dataset.TRIPLETS, file, "val")
    assert [part.name for part in back] == [part.name for part in splits]
    for before, after in zip(splits, back, strict=True):
        assert [query.id for query in after.queries] == [query.id for query in before.queries]
        assert len(after.gallery) == len(before.gallery)
    assert [part.name for part in load_splits(Dataset.TRIPLETS, file, "shirt/val")] == ["shirt/val"]
    with pytest.raises(DatasetError, match="no split 'train' "):
        load_splits(Dataset.TRIPLETS, file, "train")


def test_a_link_to_the_images_is_a_place_in_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "data").symlink_to(write_cirr(tmp_path / "read-only", "train"), target_is_directory=True)
    split = load_cirr(out / "data", "train")
    back = load_triplets(written([split], out), "train")
    assert back.queries[0].reference == "data/train/1/a.png"
    assert {path.resolve() for path in back.paths.values()} == {
        path.resolve() for path in split.paths.values()
    }


def test_rows_without_a_split_are_the_split_all(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "t.jsonl", [{"reference": "a.jpg", "text": "red", "target": "b.jpg"}])
    assert load_triplets(file, "all") == load_triplets(file)
    with pytest.raises(DatasetError, match="no split 'train': its rows name none, and are the split 'all'"):
        load_triplets(file, "train")


def test_fields_of_other_data_sets_are_told_with_what_is_meant(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "t.jsonl", [{"ref": "a.jpg", "caption": "red", "target": "b.jpg", "x": 1}])
    with pytest.raises(
        DatasetError, match=r"fields 'caption' \(text\?\), 'ref' \(reference\?\), 'x'; expected"
    ):
        load_triplets(file)


def test_an_image_outside_the_folder_is_told(tmp_path: Path) -> None:
    split = load_cirr(write_cirr(tmp_path, "train"), "train")
    with pytest.raises(DatasetError, match="write the manifest to a folder that has all images"):
        list(manifest_rows([split], tmp_path / "elsewhere"))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "queries", "images"), [("fashioniq", 6016, 15415), ("cirr", 4181, 2297)])
def test_the_real_annotation_survives(tmp_path: Path, kind: str, queries: int, images: int) -> None:
    folder = real(kind)
    splits = load_splits(Dataset(kind), folder, "val")
    rows = list(manifest_rows(splits, folder))
    assert sum("reference" in row for row in rows) == queries
    assert len({row["image"] for row in rows if "image" in row}) == images


def _row(**changes: Any) -> dict[str, Any]:
    turns = [{"text": "in red", "targets": ["b.jpg"]}, {"text": "longer", "targets": ["c.jpg", "d.jpg"]}]
    return {"id": "1", "split": "val", "reference": "a.jpg", "turns": turns} | changes


def test_turns_come_in_order_with_every_target(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d.jsonl", [_row(), _row(id="2", split="test")])
    turns = (DialogueTurn("in red", ("b.jpg",)), DialogueTurn("longer", ("c.jpg", "d.jpg")))
    assert load_dialogues(path, "val") == (Dialogue("1", "a.jpg", turns),)
    assert [dialogue.id for dialogue in load_dialogues(path)] == ["1", "2"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (_row(turns=[]), "line 1 has no turns"),
        (_row(turns=[{"targets": []}]), "line 1, turn 1 has no field 'text'"),
        (_row(turns=[{"text": "x", "targets": ["/b"]}]), "line 1, turn 1, targets is '/b'"),
        (_row(split="train"), "has no dialogues in split 'val'"),
        (_row(id=1), "line 1, id is a JSON number"),
    ],
)
def test_broken_rows_are_told(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load_dialogues(write_lines(tmp_path / "d.jsonl", [row]), "val")
