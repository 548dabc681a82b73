from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service_runtime.startup import StartupError
from service_runtime.watched_files import WatchedFiles, read_bytes


def watched(path: Path, clock: list[float] | None = None) -> WatchedFiles[int]:
    def load() -> int:
        try:
            return int(read_bytes("number", path))
        except ValueError:
            raise StartupError(f"{path} is no number") from None

    if clock is None:
        return WatchedFiles("numbers", [path], load, look_seconds=0)
    return WatchedFiles("numbers", [path], load, look_seconds=1, clock=lambda: clock[0])


def test_a_change_is_seen_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("1")
    numbers = watched(path)
    assert numbers.current() == 1
    path.write_text("22")
    assert numbers.current() == 22
    with capture_logs() as logs:
        for content in ("broken", None):
            if content is None:
                path.unlink()
            else:
                path.write_text(content)
            assert [numbers.current(), numbers.current()] == [22, 22]
    assert [entry["log_level"] for entry in logs] == ["error", "error"]
    assert "is no number" in logs[0]["error"]
    assert "cannot be read: No such file" in logs[1]["error"]
    path.write_text("3")
    assert numbers.current() == 3


def test_a_replaced_link_is_seen(tmp_path: Path) -> None:
    for number in ("1", "2"):
        (tmp_path / number).write_text(number)
    link = tmp_path / "link"
    link.symlink_to("1")
    numbers = watched(link)
    assert numbers.current() == 1
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").rename(link)
    assert numbers.current() == 2


def test_files_are_looked_at_once_a_second(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("1")
    clock = [0.0]
    numbers = watched(path, clock)
    path.write_text("22")
    clock[0] = 0.9
    assert numbers.current() == 1
    clock[0] = 1.0
    assert numbers.current() == 22


def test_what_cannot_be_loaded_at_first_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"number .*none cannot be read: No such file"):
        watched(tmp_path / "none")
