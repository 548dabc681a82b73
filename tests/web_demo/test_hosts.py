"""The web demo as a process on every spelling of a host: it serves there, and logs an address to click on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cir.address import Address, Host, UnixSocket, parse_address, parse_listener
from service_runtime.health_check import main as check_health
from tests.hosts import HOSTS, get, host_for

pytestmark = pytest.mark.service

_ROOT = Path(__file__).resolve().parents[2]


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "web_demo", "--data", str(folder / "web"), *arguments]


@contextmanager
def demo(folder: Path, *arguments: str) -> Iterator[dict[str, Any]]:
    """Yield the log line that says where it serves."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command(folder, *arguments), text=True, cwd=_ROOT, **pipes) as process:
        assert process.stdout is not None
        try:
            lines = (json.loads(line) for line in process.stdout if line.startswith("{"))
            yield next(line for line in lines if line["event"] == "serving")
        finally:
            process.terminate()
        assert process.wait(30) == 0


@pytest.mark.parametrize("spelling", HOSTS)
def test_the_page_is_where_the_log_says(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = host_for(spelling, tmp_path)
    listener = parse_listener(host, 0)
    with demo(tmp_path, "--host", host, "--port", "0", "--search", "[::1]:1") as line:
        assert line["search"] == "[::1]:1"
        if isinstance(listener, UnixSocket):
            assert line["address"] == str(listener)
            assert get(listener, "/healthz")[0] == 200
            port = "1"
        else:
            address = parse_address(line["address"].removeprefix("http://"))
            assert address.host == listener.host.dialled
            # Every address that the name has here.
            for each in (address, *_both(listener, address.port)):
                assert get(each, "/healthz") == (200, b'{"status":"ok"}')
            port = str(address.port)
            refused = subprocess.run(
                command(tmp_path, "--host", host, "--port", port), capture_output=True, text=True, cwd=_ROOT
            )
            assert refused.returncode == 1
            expected = (
                f"web_demo: cannot listen on {Address(listener.host, address.port)}: Address already in use"
            )
            assert refused.stderr == f"{expected}\n"
        for name, value in (("HOST", host), ("PORT", port), ("http_proxy", "http://127.0.0.1:9")):
            monkeypatch.setenv(name if name.islower() else f"CIR_DEMO_{name}", value)
        assert check_health(("http", "CIR_DEMO_", "8080")) == 0
    assert check_health(("http", "CIR_DEMO_", "8080")) == 1
    assert not (tmp_path / "s.sock").exists()


def _both(listener: Address, port: int) -> list[Address]:
    if not listener.host.is_every_interface or ":" not in listener.host.bare:
        return []
    return [Address(Host(bare), port) for bare in ("127.0.0.1", "::1")]
