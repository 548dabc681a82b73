"""Locks of open files: one holder, in one process too, and what is noted can be read meanwhile."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from service_runtime.locks import read_note, take_within, write_note


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT)


def test_one_descriptor_holds_a_lock_until_it_is_closed(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "lock"), opened(tmp_path / "lock")
    assert take_within(first, 0.0)
    assert not take_within(second, 0.01, poll_s=0.001)
    timer = threading.Timer(0.05, os.close, (first,))
    timer.start()
    assert take_within(second, 60.0, poll_s=0.001)
    timer.join()
    os.close(second)


def test_what_a_holder_notes_is_read_by_those_who_try(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder, other = opened(path), opened(path)
    assert take_within(holder, 0.0)
    for text in ("a longer note", "short"):
        write_note(holder, text)
        assert not take_within(other, 0.0)
        assert read_note(path) == text
    # The first byte, which nobody else may read on Windows, says nothing.
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    assert read_note(path) == "short"
    path.write_bytes(b"")
    assert read_note(path) == ""
    path.write_bytes(b" \xff")
    with pytest.raises(ValueError, match="decode"):
        read_note(path)
    os.close(holder)
    os.close(other)
