"""A folder as a source: which files are items, and in which order."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from indexer.errors import SourceError
from indexer.folder_source import FolderSource
from indexer.items import Reject, SourceItem
from tests.indexer.pictures import fill, jpeg


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


def test_a_folder_without_pictures_is_told_with_the_extensions(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SourceError, match=r"holds no pictures.*\.jpg"):
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
    assert FolderSource(tmp_path / "photos").rejects_path == tmp_path / "photos.rejects.jsonl"
