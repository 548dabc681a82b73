"""Changes and copies exclude each other."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from vector_store.edge.locks import WriteLock
from vector_store.errors import StoreLockedError


def test_one_at_a_time(tmp_path: Path) -> None:
    gate = WriteLock(tmp_path / "write.lock")
    with (
        gate.held("write it"),
        pytest.raises(StoreLockedError, match="cannot copy it: its files were being changed"),
        gate.held("copy it", wait_s=0.0),
    ):
        pass
    with gate.held("copy it", wait_s=0.0):
        pass


def test_one_waits_for_the_other(tmp_path: Path) -> None:
    gate = WriteLock(tmp_path / "write.lock")
    order: list[str] = []

    def copy() -> None:
        with gate.held("copy it"):
            order.append("copy")

    with gate.held("write it"):
        thread = threading.Thread(target=copy)
        thread.start()
        thread.join(0.05)
        order.append("write")
    thread.join()
    assert order == ["write", "copy"]


def test_a_version_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), WriteLock(tmp_path / "gone" / "write.lock").held("copy it"):
        pass


def test_an_error_inside_gives_it_free(tmp_path: Path) -> None:
    gate = WriteLock(tmp_path / "write.lock")
    with pytest.raises(ZeroDivisionError), gate.held("write it"):
        raise ZeroDivisionError
    with gate.held("write it", wait_s=0.0):
        pass
