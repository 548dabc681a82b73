"""Settings: what an operator is warned of, and files that are read again when they change."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service_runtime.errors import StartupError
from service_runtime.settings import ServiceSettings, startup_warnings
from service_runtime.watched_files import WatchedFiles, read_bytes


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "::1", "localhost", "unix:/run/cir"])
def test_on_loopback_nothing_is_warned_of(host: str) -> None:
    assert startup_warnings(ServiceSettings(host=host)) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "search.internal"])
def test_beyond_it_each_protection_that_is_off_is_named(host: str) -> None:
    tls, keys = Path("server.crt"), Path("keys.toml")
    assert [
        line.split(f"{host} ")[1][: len(word)]
        for line, word in zip(
            startup_warnings(ServiceSettings(host=host)), ("without TLS", "without API keys"), strict=True
        )
    ] == ["without TLS", "without API keys"]
    assert len(startup_warnings(ServiceSettings(host=host, tls_certificate=tls, tls_key=tls))) == 1
    assert len(startup_warnings(ServiceSettings(host=host, api_keys_file=keys))) == 1
    assert startup_warnings(ServiceSettings(host=host, tls_certificate=tls, api_keys_file=keys)) == []
    assert startup_warnings(ServiceSettings(host=host, tls_certificate=tls, tls_client_ca=tls)) == []
    assert len(startup_warnings(ServiceSettings(host=host, api_keys="a:read:0123456789abcdef"))) == 1


def watched_number(path: Path, clock: list[float] | None = None) -> WatchedFiles[int]:
    def load() -> int:
        try:
            return int(read_bytes("number", path))
        except ValueError:
            raise StartupError(f"{path} is no number") from None

    if clock is None:
        return WatchedFiles("numbers", [path], load, check_seconds=0)
    return WatchedFiles("numbers", [path], load, check_seconds=1, clock=lambda: clock[0])


def test_a_change_is_seen_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("1")
    numbers = watched_number(path)
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
    numbers = watched_number(link)
    assert numbers.current() == 1
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").rename(link)
    assert numbers.current() == 2


def test_files_are_looked_at_once_a_second(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("1")
    clock = [0.0]
    numbers = watched_number(path, clock)
    path.write_text("22")
    clock[0] = 0.9
    assert numbers.current() == 1
    clock[0] = 1.0
    assert numbers.current() == 22


def test_what_cannot_be_loaded_at_first_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"number .*none cannot be read: No such file"):
        watched_number(tmp_path / "none")
