"""Files that items name: opened below the catalog's own folders, and nowhere else."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.local_images import open_image, read_image, usable_folder

SECRET, OWN = b"secret", b"own"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A catalog's folder, with files that are not the catalog's around it."""
    own = tmp_path / "photos"
    (own / "sub").mkdir(parents=True)
    (own / "a.jpg").write_bytes(OWN)
    (own / "sub" / "b.jpg").write_bytes(OWN)
    (own / ".hidden").mkdir()
    (own / ".hidden" / "c.jpg").write_bytes(SECRET)
    evil = tmp_path / "photos-evil"
    evil.mkdir()
    (evil / "a.jpg").write_bytes(SECRET)
    (tmp_path / "secret.jpg").write_bytes(SECRET)
    (own / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (own / "linked").symlink_to(evil)
    (own / "loop.jpg").symlink_to(own / "loop.jpg")
    (own / "inside.jpg").symlink_to(own / "a.jpg")
    os.mkfifo(own / "pipe.jpg")
    os.mknod(own / "socket.jpg", stat.S_IFSOCK | 0o600)
    return own


def test_the_catalogs_own_files_are_read(folder: Path) -> None:
    for name in ("a.jpg", "sub/b.jpg", "inside.jpg", "sub/../a.jpg", "./a.jpg"):
        assert read_image(f"{folder}/{name}", [str(folder)], max_bytes=10) == OWN, name
    assert read_image(f"{folder}/a.jpg", ["/nowhere", str(folder)], max_bytes=10) == OWN
    assert read_image(f"{folder}/a.jpg", [str(folder)], max_bytes=2) is None


@pytest.mark.parametrize(
    "location",
    [
        "{parent}/secret.jpg",
        "{folder}/../secret.jpg",
        "{folder}/sub/../../secret.jpg",
        "{parent}/photos-evil/a.jpg",
        "{folder}-evil/a.jpg",
        "{folder}/link.jpg",
        "{folder}/linked/a.jpg",
        "{folder}/loop.jpg",
        "{folder}/.hidden/c.jpg",
        "{folder}/pipe.jpg",
        "{folder}/socket.jpg",
        "{folder}/",
        "{folder}",
        "photos/a.jpg",
        "../photos/a.jpg",
        "a.jpg",
        "~/a.jpg",
        "file://{folder}/a.jpg",
        "{quoted}",
        "{folder}/a.jpg\0.png",
        "{folder}/missing.jpg",
        "/dev/zero",
        "/dev/stdin",
        "/proc/self/environ",
        "/proc/self/root{parent}/secret.jpg",
        "",
        "x" * 9000,
        "/" + "x" * 9000,
        "\udcff/a.jpg",
        "/\udcff\ud800.jpg",
    ],
)
def test_nothing_else_is_opened(folder: Path, location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    named = location.format(folder=folder, parent=folder.parent, quoted=quote(f"{folder}/a.jpg", safe=""))
    assert open_image(named, [str(folder)]) is None


@pytest.mark.parametrize("root", ["/", "//", "/.", "/..", "", ".", "photos", "{parent}/root-link"])
def test_no_folder_stands_for_the_whole_machine(
    folder: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    (folder.parent / "root-link").symlink_to("/")
    named = root.format(parent=folder.parent)
    assert usable_folder(named) is None
    assert open_image(f"{folder}/a.jpg", [named]) is None


def test_a_further_bound_holds_too(folder: Path) -> None:
    location, folders = f"{folder}/a.jpg", [str(folder)]
    assert open_image(location, folders, within=[folder / "sub"]) is None
    assert open_image(location, folders, within=[]) is None
    file = open_image(location, folders, within=[folder.parent])
    assert file is not None
    file.close()


def test_a_device_below_a_folder_is_not_opened() -> None:
    assert open_image("/dev/zero", ["/dev"]) is None
    assert open_image("/dev/tty", ["/dev"]) is None


PARTS = st.lists(
    st.sampled_from(
        ["..", ".", "", "photos", "photos-evil", "sub", "linked", "link.jpg", "a.jpg", "secret.jpg"]
    ),
    max_size=7,
)


@given(PARTS, st.sampled_from(["{folder}/", "{parent}/", "/", ""]))
def test_no_path_whatever_leads_to_a_secret(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str], start: str
) -> None:
    parent = tmp_path_factory.getbasetemp() / "paths"
    own = parent / "photos"
    if not parent.exists():
        for name in ("photos/sub", "photos-evil"):
            (parent / name).mkdir(parents=True)
        for secret in (parent / "secret.jpg", parent / "photos-evil" / "a.jpg"):
            secret.write_bytes(SECRET)
        (own / "a.jpg").write_bytes(OWN)
        (own / "link.jpg").symlink_to(parent / "secret.jpg")
        (own / "linked").symlink_to(parent / "photos-evil")
    location = start.format(folder=own, parent=parent) + "/".join(parts)
    assert read_image(location, [str(own)], max_bytes=10) in (None, OWN)
