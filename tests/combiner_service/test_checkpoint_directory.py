"""Looks at the folder of checkpoints, and files there that cannot be used."""

import os
import socket
from pathlib import Path

import pytest

from combiner_service import checkpoint_directory
from combiner_service.checkpoint import CheckpointMetadata, write_checkpoint
from combiner_service.checkpoint_directory import CheckpointDirectory
from tests.clock import Clock
from tests.combiner_service.examples import save_published, weights_of

pytestmark = pytest.mark.torch

METADATA = CheckpointMetadata(model_fingerprint="abc")


def problems(directory: CheckpointDirectory) -> dict[str, str]:
    return {name.removeprefix("combiner/"): entry.info.problem for name, entry in directory.scan().items()}


def test_a_scan_holds_for_its_interval_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    scandir = os.scandir

    def counted(path: Path) -> object:
        if path == tmp_path:  # imports look into folders, too
            looks.append(path)
        return scandir(path)

    monkeypatch.setattr("combiner_service.checkpoint_directory.os.scandir", counted)
    clock = Clock()
    directory = CheckpointDirectory(tmp_path, {}, interval=0.5, clock=clock)
    first = directory.scan()
    save_published(tmp_path / "a.pt", weights_of())
    for _ in range(1000):
        assert directory.scan() is first
    clock.now += 0.49
    assert directory.scan() is first
    assert len(looks) == 1
    clock.now += 0.02
    assert list(directory.scan()) == ["combiner/a"]
    (tmp_path / "a.pt").unlink()
    clock.now += 0.51
    assert list(directory.scan()) == []
    assert len(looks) == 3


def test_a_file_that_is_replaced_with_its_size_and_time_kept_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    directory = CheckpointDirectory(tmp_path, {})
    write_checkpoint(path, weights_of(seed=1), METADATA)
    before, status = directory.scan()["combiner/a"], path.stat()
    other = CheckpointMetadata(model_fingerprint="xyz")
    write_checkpoint(tmp_path / ".new.safetensors", weights_of(seed=2), other)
    # Written in place: the inode, the size and the set time are those of before.
    path.write_bytes((tmp_path / ".new.safetensors").read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = directory.scan()["combiner/a"]
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert (before.info.model_fingerprint, after.info.model_fingerprint) == ("abc", "xyz")


def test_a_file_seen_half_written_is_looked_at_again_even_if_its_times_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, weights_of(), METADATA)
    whole = path.read_bytes()
    # As a copying program leaves it that reserves the whole size first, on a file system with coarse times.
    path.write_bytes(bytes(len(whole)))
    monkeypatch.setattr(checkpoint_directory, "_signature", lambda _: (1, 2, 3, 4, 5))
    directory = CheckpointDirectory(tmp_path, {})
    assert problems(directory)["a"]
    path.write_bytes(whole)
    assert problems(directory) == {"a": ""}


@pytest.mark.service
def test_links_are_followed_and_what_is_no_file_is_named(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    save_published(elsewhere / "real.pt", weights_of())
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "linked.pt").symlink_to(elsewhere / "real.pt")
    (folder / "dangling.pt").symlink_to(elsewhere / "nothing.pt")
    (folder / "loop.pt").symlink_to(folder / "loop.pt")
    (folder / "directory.pt").mkdir()
    os.mkfifo(folder / "pipe.safetensors")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket.pt"))
        found = problems(CheckpointDirectory(folder, {}))
    assert found == {
        "linked": "",
        "dangling": "a link that leads to no file; put a file there or remove it",
        "loop": "a link that leads to no file; put a file there or remove it",
        "directory": "not a regular file; put a file there or remove it",
        "pipe": "not a regular file; put a file there or remove it",
        "socket": "not a regular file; put a file there or remove it",
    }


@pytest.mark.parametrize(
    "stem", ["new\nline", "tab\there", "\x1b[31mred", "a b", "..x", "-x", "é", "x" * 129]
)
def test_odd_names_are_listed_printable_with_their_problem(tmp_path: Path, stem: str) -> None:
    name = f"{stem}.pt"
    if name.startswith("."):
        name = "_" + name
    save_published(tmp_path / name, weights_of())
    ((listed, entry),) = CheckpointDirectory(tmp_path, {}).scan().items()
    assert listed.isprintable()
    assert "rename the file" in entry.info.problem


def test_a_file_larger_than_the_limit_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: it takes no room
    assert (
        "1099511627776 bytes; at most 4294967296 are read" in problems(CheckpointDirectory(tmp_path, {}))["a"]
    )
    write_checkpoint(path, weights_of(), METADATA)
    assert "at most 10 are read" in problems(CheckpointDirectory(tmp_path, {}, max_bytes=10))["a"]


def test_a_file_that_may_not_be_read_is_named_and_the_others_served(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    save_published(tmp_path / "a.pt", weights_of())
    save_published(tmp_path / "b.pt", weights_of()).chmod(0)
    found = problems(CheckpointDirectory(tmp_path, {}))
    assert found["a"] == ""
    assert "cannot be read: Permission denied" in found["b"]


def test_folders_are_one_list_and_one_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    save_published(first / "a.pt", weights_of())
    directory = CheckpointDirectory([first, second], {})
    assert problems(directory) == {"a": ""}

    second.mkdir()
    save_published(second / "b.pt", weights_of())
    assert problems(directory) == {"a": "", "b": ""}
    save_published(second / "a.pt", weights_of())
    assert "several files share the name" in problems(directory)["a"]
    (second / "a.pt").unlink()
    second.rename(tmp_path / "away")
    assert problems(directory) == {"a": "", "b": ""}


def test_a_file_of_the_fallback_gives_way_to_one_of_the_same_name(tmp_path: Path) -> None:
    own, fallback = tmp_path / "own", tmp_path / "shipped"
    for folder in (own, fallback):
        folder.mkdir()
    write_checkpoint(fallback / "garments.safetensors", weights_of(), METADATA)
    write_checkpoint(fallback / "other.safetensors", weights_of(), METADATA)
    directory = CheckpointDirectory((own, fallback), {}, fallback=fallback)
    assert {entry.path.parent for entry in directory.scan().values()} == {fallback}
    mine = own / "garments.safetensors"
    write_checkpoint(mine, weights_of(seed=2), METADATA)
    entries = directory.scan()
    assert {name: entry.path for name, entry in entries.items()} == {
        "combiner/garments": mine,
        "combiner/other": fallback / "other.safetensors",
    }
    assert set(problems(directory).values()) == {""}
    # A share that is away for a while does not change what a name stands for.
    own.rename(tmp_path / "away")
    assert directory.scan()["combiner/garments"].path == mine
    (tmp_path / "away").rename(own)
    mine.unlink()
    assert directory.scan()["combiner/garments"].path == fallback / "garments.safetensors"
