"""Folders of images, and file paths that may not leave their root."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import SourceError
from indexer.rejects import Reject
from indexer.sources.base import ImageRoot, OutsideRoot, SourceItem
from indexer.sources.folder import FolderSource
from tests.indexer.helpers import fill, jpeg


def test_items_are_sorted_by_path_whatever_order_they_were_written_in(tmp_path: Path) -> None:
    for name in ("b.jpg", "a/z.png", "a/b/c.webp", "A.JPEG", "a.gif", "é.tiff"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    items = list(FolderSource(tmp_path).items())
    assert [item.id for item in items] == ["A.JPEG", "a/b/c.webp", "a/z.png", "a.gif", "b.jpg", "é.tiff"]
    assert [item.payload for item in items if isinstance(item, SourceItem)][:3] == [
        {"filename": "A.JPEG"},
        {"filename": "c.webp", "folder": "a/b"},
        {"filename": "z.png", "folder": "a"},
    ]


def test_other_files_and_hidden_ones_are_passed_over(tmp_path: Path) -> None:
    for name in ("notes.txt", "jpg", ".hidden.jpg", ".git/a.jpg", "Thumbs.db", "ok.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "folder.jpg").mkdir()
    assert [item.id for item in FolderSource(tmp_path).items()] == ["ok.jpg"]
    assert FolderSource(tmp_path).survey().total == 1


def test_links_inside_are_items_and_links_that_leave_are_rejects(tmp_path: Path) -> None:
    root = tmp_path / "root"
    fill(root, 2)
    (tmp_path / "secret.jpg").write_bytes(jpeg(1))
    (tmp_path / "elsewhere").mkdir()
    (root / "in.jpg").symlink_to(root / "0001.jpg")
    (root / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "out").symlink_to(tmp_path / "elsewhere")
    (root / "up").symlink_to(root)
    (root / "round.jpg").symlink_to(root / "round.jpg")
    (root / "etc.txt").symlink_to("/etc/passwd")
    found = {item.id: item for item in FolderSource(root).items()}
    assert set(found) == {"0001.jpg", "sub/0000.jpg", "in.jpg", "out.jpg", "out", "round.jpg"}
    rejects = {item.id: item.reason for item in found.values() if isinstance(item, Reject)}
    assert rejects == {
        "out.jpg": "IMAGE_OUTSIDE_ROOT",
        "out": "IMAGE_OUTSIDE_ROOT",
        "round.jpg": "IMAGE_MISSING",
    }


def test_a_root_that_is_itself_a_link_is_followed(tmp_path: Path) -> None:
    fill(tmp_path / "real", 2)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert [item.id for item in FolderSource(tmp_path / "link").items()] == ["0001.jpg", "sub/0000.jpg"]


def test_image_base_replaces_the_folder_in_stored_locations(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    (item,) = FolderSource(tmp_path, image_base="https://img.example.com/shop/").items()
    assert item.image == "https://img.example.com/shop/sub/0000.jpg"
    (plain,) = FolderSource(tmp_path).items()
    assert plain.image == str(tmp_path / "sub/0000.jpg")


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        FolderSource(tmp_path / "nowhere").survey()
    (tmp_path / "file").write_text("x")
    with pytest.raises(SourceError, match="is no folder"):
        FolderSource(tmp_path / "file").survey()


def test_a_folder_without_images_is_told_with_the_extensions(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SourceError, match=r"holds no images.*\.jpg"):
        FolderSource(tmp_path).survey()


def test_a_folder_that_cannot_be_read_ends_the_survey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Patched rather than without permission, because a superuser reads every folder.
    fill(tmp_path, 3)
    scandir = os.scandir

    def refuse(path: Path) -> Any:
        if path == tmp_path / "sub":
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match=r"sub cannot be read: Permission denied"):
        FolderSource(tmp_path).survey()


def test_rejects_go_beside_the_folder(tmp_path: Path) -> None:
    assert FolderSource(tmp_path / "photos").rejects_path("shop") == tmp_path / "photos.shop.rejects.jsonl"


@pytest.mark.parametrize(
    "image",
    ["../x.jpg", "a/../../x.jpg", "/etc/passwd", "..", ".", "", "a\0b", "https://x/y.jpg", "file:///x"],
)
def test_paths_that_leave_the_root_are_refused(tmp_path: Path, image: str) -> None:
    with pytest.raises(OutsideRoot):
        ImageRoot(tmp_path / "root").resolve(image)


def test_links_are_followed_before_judging(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "out").mkdir()
    (root / "link").symlink_to(tmp_path / "out")
    with pytest.raises(OutsideRoot):
        ImageRoot(root).resolve("link/a.jpg")


def test_a_path_inside_is_taken_also_when_absolute_or_roundabout(tmp_path: Path) -> None:
    root = ImageRoot(tmp_path)
    assert root.resolve("a/../b.jpg") == (tmp_path / "b.jpg", "b.jpg")
    assert root.resolve(str(tmp_path / "b.jpg")) == (tmp_path / "b.jpg", "b.jpg")


@given(st.lists(st.sampled_from(["..", ".", "a", "b.jpg", "", "~", "..."]), max_size=8))
def test_whatever_resolves_lies_below_the_root(parts: list[str]) -> None:
    root = Path("/somewhere/root")
    try:
        path, relative = ImageRoot(root).resolve("/".join(parts))
    except OutsideRoot:
        return
    assert path == root / relative
    assert ".." not in Path(relative).parts


def test_what_is_no_image_is_counted_and_named(tmp_path: Path) -> None:
    members = ("a.jpg", "DSC0001.HIF", "b.heif", "c.jp2", "d.J2K", "e.apng", "sub/f.avif")
    others = {
        "system_file": (
            "._a.jpg",
            "Thumbs.db",
            "@eaDir/a.jpg/SYNOFILE_THUMB_XL.jpg",
            "__MACOSX/a.jpg",
            ".DS_Store",
        ),
        "hidden": (".git/a.jpg", ".b.jpg"),
        "format_not_read": ("x.psd", "sub/y.CR2", "z.svg", "w.dng"),
        "no_image": ("notes.txt", "a.jpg.part"),
    }
    for name in (*members, *(name for names in others.values() for name in names)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "linked").symlink_to(tmp_path / "sub")
    (tmp_path / "pipe-link.jpg").symlink_to(tmp_path / "pipe.jpg")
    source = FolderSource(tmp_path)
    facts = source.survey()
    assert facts.total == len(members) == len(list(source.items()))
    counted = {reason: len(names) for reason, names in others.items()}
    counted |= {"special_file": 2, "linked_folder": 1}
    assert facts.passed_over.counts == counted
    assert facts.passed_over.names["format_not_read"] == ("sub/y.CR2", "w.dng", "x.psd")
    assert "format_not_read 4 (sub/y.CR2, w.dng, x.psd, ...)" in facts.passed_over.text
    assert "linked_folder 1 (linked/)" in facts.passed_over.text


def test_a_folder_without_images_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "a.psd").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"holds no images.*passed over: format_not_read 1 \(a\.psd\)"):
        FolderSource(tmp_path).survey()


def test_folders_nested_deeper_than_calls_are_read(tmp_path: Path) -> None:
    folders = [str(tmp_path)]
    for _ in range(1200):
        folders.append(f"{folders[-1]}/a")
        os.mkdir(folders[-1])
    image = Path(folders[-1]) / "x.jpg"
    image.write_bytes(jpeg(1))
    try:
        assert FolderSource(tmp_path).survey().total == 1
    finally:
        # What removes temporary folders calls itself for each level.
        image.unlink()
        for folder in reversed(folders[1:]):
            os.rmdir(folder)


def test_names_that_are_no_text_are_told_as_text(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9\n.psd")
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.psd")).write_bytes(b"x")
    facts = FolderSource(tmp_path).survey()
    assert json.loads(json.dumps(dict(facts.passed_over.names))) == {"format_not_read": ["\\udcff.psd"]}
    assert facts.passed_over.text.encode() == b"format_not_read 1 (\\udcff.psd)"
