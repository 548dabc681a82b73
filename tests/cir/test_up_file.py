from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from cir.failure import Failure
from cir.local import up_file
from cir.local.up_file import UpFile

UP = UpFile(os.getpid(), "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "edge:///x", "RN50", "openai")


def test_what_is_up_can_be_read_until_it_ends(tmp_path: Path) -> None:
    data = tmp_path / "new" / "data"
    assert up_file.read(data) is None
    with up_file.claim(data):
        assert up_file.read(data) is None
        up_file.write(data, UP)
        assert up_file.read(data) == UP
    assert up_file.read(data) is None


def test_a_second_owner_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    with up_file.claim(tmp_path):
        with pytest.raises(Failure, match="already up; use them"), up_file.claim(tmp_path):
            pass
        up_file.write(tmp_path, UP)
        message = rf"already up \(process {os.getpid()}, search at 127\.0\.0\.1:1\)"
        with pytest.raises(Failure, match=message), up_file.claim(tmp_path):
            pass
        assert up_file.read(tmp_path) == UP
    with up_file.claim(tmp_path):
        pass


def _exit_at_once() -> None:
    os._exit(0)


def test_the_file_of_a_killed_owner_counts_for_nothing(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_exit_at_once)
    process.start()
    process.join()
    assert process.pid is not None
    gone = UpFile(process.pid, "a", "b", "c", "d", "e", "f")
    up_file.write(tmp_path, gone)
    assert up_file.read(tmp_path) is None


@pytest.mark.parametrize("content", ["{", "[]", '{"pid": 1}'])
def test_a_damaged_file_is_said_to_be(tmp_path: Path, content: str) -> None:
    (tmp_path / "up.json").write_text(content)
    with pytest.raises(Failure, match=r"up\.json cannot be read"):
        up_file.read(tmp_path)


def test_a_data_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match="cannot be used"), up_file.claim(tmp_path / "file" / "data"):
        pass
