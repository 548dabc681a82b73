"""The folders that are recorded with a version: all that its images need, and no more."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from hypothesis import given
from hypothesis import strategies as st

from indexer.sources.base import SourceItem
from indexer.sources.folder import FolderSource
from indexer.sources.image_folders import MAX_FOLDERS, fold_folders
from indexer.sources.source_factory import open_source
from tests.indexer.helpers import jpeg
from tests.indexer.sources.test_tar import sample, write

NAMES = st.sampled_from(["a", "b", "c", "photos", "photos-evil", ".x"])
FOLDERS = st.lists(st.lists(NAMES, max_size=5).map(lambda parts: "/" + "/".join(parts)), max_size=80)


@given(FOLDERS)
def test_folding_keeps_every_folder_but_the_root(folders: list[str]) -> None:
    folded = fold_folders(folders)
    assert "/" not in folded
    assert fold_folders(folded) == folded == fold_folders(reversed(folders))
    for folder in folders:
        if folder != "/":
            assert any(PurePosixPath(folder).is_relative_to(kept) for kept in folded), folder
    assert len(folded) <= MAX_FOLDERS or all(folder.count("/") == 1 for folder in folded)
    assert not any(PurePosixPath(one).is_relative_to(two) for one in folded for two in folded if one != two)


def test_many_deep_folders_become_few() -> None:
    assert fold_folders(f"/srv/shop/{number:03d}/x" for number in range(500)) == ("/srv/shop",)
    assert fold_folders(["/", "", "a/b", "https://shop/x", "s3://b", "/\udcff"]) == ()


def test_a_folder_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").write_bytes(jpeg(1))
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    assert FolderSource(tmp_path / "link").survey().image_folders == (str(tmp_path / "sub"),)
    for base, expected in (
        ("https://shop/x/", ()),
        ("/mnt/shop/", ("/mnt/shop",)),
        ("/mnt/shop-", ("/mnt",)),
        ("pictures/", ()),
        ("/", ()),
    ):
        assert FolderSource(tmp_path, image_base=base).survey().image_folders == expected, base


def test_a_manifest_has_the_folders_of_its_rows_alone(tmp_path: Path) -> None:
    for name in ("data/new", "data/old", "blobs", "private"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "blobs" / "x").write_bytes(jpeg(1))
    (tmp_path / "data" / "new" / "link.jpg").symlink_to(tmp_path / "blobs" / "x")
    (tmp_path / "out.jpg").symlink_to("/etc/hostname")
    manifest = tmp_path / "m.csv"
    absolute = tmp_path / "data" / "old" / "b.jpg"
    rows = [
        "data/new/a.jpg",
        "data/new/link.jpg",
        str(absolute),
        "../up.jpg",
        "/etc/passwd",
        "https://shop/a.jpg",
    ]
    manifest.write_text("image\n" + "\n".join(rows) + "\nout.jpg\n")
    source = open_source(manifest)
    folders = source.survey().image_folders
    assert folders == tuple(str(tmp_path / name) for name in ("blobs", "data/new", "data/old"))
    for item in source.items():
        if isinstance(item, SourceItem) and "://" not in item.image:
            assert os.path.dirname(item.image) in folders
    based = open_source(manifest, image_base="/mnt/")
    assert based.survey().image_folders == ("/mnt/blobs", "/mnt/data/new", "/mnt/data/old")
    assert open_source(manifest, image_base="https://shop/").survey().image_folders == ()


def test_a_manifest_of_the_whole_machine_records_no_root(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("image\n/top.jpg\nsrv/a/b.jpg\nmnt/c.jpg\n")
    assert open_source(manifest, root=Path("/")).survey().image_folders == ("/mnt", "/srv/a")


def test_images_in_shards_are_no_files(tmp_path: Path) -> None:
    shard = write(tmp_path / "a.tar", sample(1))
    assert open_source(shard).survey().image_folders == ()
    assert open_source(shard, image_base="/mnt/x/").survey().image_folders == ("/mnt/x",)
