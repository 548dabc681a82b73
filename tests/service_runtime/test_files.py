"""Files are replaced whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service_runtime.files import (
    commit_file,
    read_json,
    replace_file,
    write_bytes,
    write_json,
    write_json_lines,
    write_text,
)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "one")
    write_bytes(tmp_path / "a", "zwei ✓".encode())
    assert (tmp_path / "a").read_text(encoding="utf-8") == "zwei ✓"
    write_json_lines(tmp_path / "a", [{"text": "ä"}, {"number": 1}])
    assert (tmp_path / "a").read_text(encoding="utf-8") == '{"text": "ä"}\n{"number": 1}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_was_there_stays_when_writing_fails(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "one")

    def write_half() -> None:
        with replace_file(tmp_path / "a") as temporary:
            temporary.write_text("half")
            assert temporary.name.startswith(".")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_half()
    with pytest.raises(TypeError):
        write_json_lines(tmp_path / "a", [{"fine": 1}, {"not": object()}])
    assert (tmp_path / "a").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_permissions_are_those_of_the_umask_or_those_given(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "default", "x")
        write_text(tmp_path / "public", "x", mode=0o644)
        write_text(tmp_path / "private", "x", mode=0o600)
    finally:
        os.umask(before)
    modes = [mode_of(tmp_path / name) for name in ("default", "public", "private")]
    assert modes == [0o640, 0o644, 0o600]


def test_the_content_reaches_the_disk_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    synced: list[tuple[bool, bool]] = []

    def fsync(descriptor: int) -> None:
        synced.append((os.path.samestat(os.fstat(descriptor), tmp_path.stat()), path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(path, "x", durable=False)
    assert synced == []
    path.unlink()
    write_text(path, "x")
    assert synced == [(False, False), (True, True)]


def test_a_partial_file_gets_its_name(tmp_path: Path) -> None:
    partial = tmp_path / "a.partial"
    partial.write_text("whole")
    commit_file(partial, tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "whole"


def test_a_json_document_comes_back_and_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "document.json"
    assert read_json(path) is None
    write_json(path, {"name": "Röcke", "points": 3})
    assert read_json(path) == {"name": "Röcke", "points": 3}
    path.write_text("[1]")
    with pytest.raises(ValueError, match=r"document\.json does not hold a JSON object"):
        read_json(path)
