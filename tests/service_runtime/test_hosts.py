"""Services listen on every spelling of a host, and say where; what is no host is refused in one line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cir.address import Address, UnixSocket, parse_listener, parse_target
from cir.channel import is_serving
from cir_cli.local.plan import ServiceSpec
from cir_cli.local.readiness import check_free, free_ports, takes_calls
from search_service.settings import SearchSettings
from service_runtime.errors import StartupError
from service_runtime.health_check import main as check_health
from service_runtime.listen import open_sockets, remove_socket
from service_runtime.server import serving
from service_runtime.settings import ServiceSettings
from service_runtime.tls import local_tls_files
from tests.hosts import HOSTS, get, has_ipv6, host_for
from tests.service_runtime.certificates import Authority
from tests.service_runtime.example_service import NAME, ExampleService
from web_demo.settings import DemoSettings

pytestmark = pytest.mark.service

_ROOT = Path(__file__).resolve().parents[2]


def settings(host: str, port: int = 0, metrics_port: int = 0) -> ServiceSettings:
    return ServiceSettings(host=host, port=port, metrics_port=metrics_port, shutdown_grace_seconds=5)


async def _reached(address: str) -> bool:
    return await asyncio.to_thread(is_serving, address, NAME)


@pytest.mark.parametrize("spelling", HOSTS)
async def test_a_service_listens_where_its_host_says(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = host_for(spelling, tmp_path)
    port, metrics_port = free_ports(2)
    given = settings(host, port, metrics_port)
    async with serving(ExampleService(), given) as address:
        assert address == str(parse_listener(host, port)) == str(parse_target(address))
        listener = parse_listener(host, port)
        assert await _reached(str(listener.dialled))
        status, metrics = await asyncio.to_thread(get, given.metrics_address, "/metrics")
        assert (status, b"cir_example_things 7.0" in metrics) == (200, True)
        for name, value in (("HOST", host), ("PORT", str(port))):
            monkeypatch.setenv(f"CIR_EXAMPLE_{name}", value)
        assert await asyncio.to_thread(check_health, (NAME, "CIR_EXAMPLE_", "1")) == 0
    assert await asyncio.to_thread(check_health, (NAME, "CIR_EXAMPLE_", "1")) == 1


@pytest.mark.parametrize("mutual", [False, True])
@pytest.mark.parametrize(
    "spelling", ["unix:{folder}/s.sock", "unix-abstract:{name}", "::", "[::1]", "127.0.0.1"]
)
async def test_over_tls_as_well(
    spelling: str, mutual: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path, "ca")
    pair = authority.issue("own", names=("localhost", "127.0.0.1", "::1"))
    files = {"tls_certificate": pair.certificate, "tls_key": pair.key}
    files |= {"tls_client_ca": authority.file} if mutual else {}
    given = ServiceSettings.model_validate(
        {"host": host_for(spelling, tmp_path), "port": free_ports(1)[0], "shutdown_grace_seconds": 5, **files}
    )
    for name in ("host", "port", *files):
        monkeypatch.setenv(f"CIR_EXAMPLE_{name.upper()}", str(getattr(given, name)))
    async with serving(ExampleService(), given):
        spec = ServiceSpec("search", "search_service", str(given.listener.dialled), NAME, {})
        assert await asyncio.to_thread(takes_calls, spec, local_tls_files(given))
        assert await asyncio.to_thread(check_health, (NAME, "CIR_EXAMPLE_", "1")) == 0


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
async def test_every_interface_is_ipv4_and_ipv6() -> None:
    async with serving(ExampleService(), settings("::")) as address:
        port = address.rpartition(":")[2]
        for host in ("127.0.0.1", "[::1]", "localhost"):
            assert await _reached(f"{host}:{port}")


async def test_a_second_service_does_not_push_the_first_from_its_socket(tmp_path: Path) -> None:
    host = f"unix:{tmp_path}/s.sock"
    async with serving(ExampleService(), settings(host)) as address:
        with pytest.raises(StartupError, match=r"cannot listen on unix:/.*/s\.sock: it is in use"):
            async with serving(ExampleService(), settings(host)):
                pass
        assert await _reached(address)
    # As a process leaves it that was killed.
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "s.sock"))
    async with serving(ExampleService(), settings(host)) as address:
        assert await _reached(address)


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s.sock").write_text("mine")
    with pytest.raises(StartupError, match="cannot listen on unix:"):
        async with serving(ExampleService(), settings(f"unix:{tmp_path}/s.sock")):
            pass
    with pytest.raises(StartupError, match="cannot listen on unix:"):
        open_sockets(UnixSocket(f"{tmp_path}/s.sock"))
    assert (tmp_path / "s.sock").read_text() == "mine"


@pytest.mark.parametrize("spelling", HOSTS)
def test_sockets_are_those_that_grpc_would_open(spelling: str, tmp_path: Path) -> None:
    listener = parse_listener(host_for(spelling, tmp_path), 0)
    sockets = open_sockets(listener)
    if isinstance(listener, Address):
        (port,) = {one.getsockname()[1] for one in sockets}
        taken = Address(listener.host, port)
        with pytest.raises(StartupError, match="Address already in use"):
            open_sockets(taken)
    for one in sockets:
        one.close()
    remove_socket(listener)
    check_free([listener])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--host", "127.0.0.1:50050"), "leave out the port"),
        (("--host", "http://localhost"), "is no name and no IP address"),
        (("--host", "256.1.1.1"), "four numbers from 0 to 255"),
        (("--host", "unix:"), "names no path"),
        (("--host", "a b"), "is no name and no IP address"),
        (("--port", "99999"), "less than or equal to 65535"),
    ],
)
def test_what_is_no_place_to_listen_is_refused(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(StartupError, match=message) as caught:
        ServiceSettings.load(list(arguments))
    assert str(caught.value).startswith(f"setting {arguments[0].removeprefix('--')}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given", ["127.0.0.1:99999", "localhost", "::1:50051", "http://localhost:1", "unix:"]
)
@pytest.mark.parametrize("name", ["embedder", "combiner", "search"])
def test_what_is_no_neighbour_is_refused(name: str, given: str) -> None:
    settings_class = DemoSettings if name == "search" else SearchSettings
    with pytest.raises(StartupError, match=f"^setting {name}: (address|socket) '"):
        settings_class.load([f"--{name}", given])


def test_neighbours_have_one_spelling() -> None:
    found = SearchSettings.load(["--embedder", "dns:///Embedder:50051", "--combiner", "unix:///run/c.sock"])
    assert (found.embedder, found.combiner) == ("embedder:50051", "unix:/run/c.sock")


async def test_settings_may_be_as_large_as_they_like() -> None:
    """What gRPC counts in 32 bits is cut there."""
    large: dict[str, Any] = {
        "max_message_bytes": 1 << 40,
        "max_connections": 1 << 70,
        "max_streams_per_connection": 1 << 31,
        "max_metadata_bytes": 1 << 31,
        "max_connection_age_seconds": 1e308,
        "max_connection_age_grace_seconds": 1e12,
        "handshake_timeout_seconds": 1e12,
    }
    async with serving(ExampleService(), ServiceSettings(port=0, **large)) as address:
        assert await _reached(address)


@pytest.mark.parametrize("value", ["inf", "nan", "-inf"])
def test_numbers_of_settings_are_numbers(value: str) -> None:
    with pytest.raises(StartupError, match=r"^setting max_connection_age_seconds: .*finite number"):
        ServiceSettings.load([f"--max-connection-age-seconds={value}"])


async def test_a_host_that_is_not_here_is_named() -> None:
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(StartupError, match=f"cannot listen on {host}:"):
            async with serving(ExampleService(), settings(host)):
                pass
        with pytest.raises(StartupError, match=f"cannot listen on {host}:"):
            open_sockets(parse_listener(host, 0))


@pytest.mark.parametrize("spelling", ["[::1]", "unix:{folder}/s.sock"])
def test_a_process_listens_with_its_metrics(spelling: str, tmp_path: Path) -> None:
    host = host_for(spelling, tmp_path)
    port, metrics_port = free_ports(2)
    command = [sys.executable, "-m", "combiner_service", "--host", host, "--port", str(port)]
    command += ["--metrics-port", str(metrics_port)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=_ROOT
    ) as process:
        assert process.stdout is not None
        try:
            lines = (json.loads(line) for line in process.stdout if line.startswith("{"))
            facts = next(line for line in lines if line["event"] == "serving")
            assert facts["address"] == str(parse_listener(host, port))
            assert is_serving(facts["address"], NAME)
            here = "[::1]" if host == "[::1]" else "127.0.0.1"
            assert facts["metrics"] == f"http://{here}:{metrics_port}/metrics"
            metrics = parse_target(f"{here}:{metrics_port}")
            assert isinstance(metrics, Address)
            assert get(metrics, "/metrics")[0] == 200
        finally:
            os.kill(process.pid, signal.SIGTERM)
        assert process.wait(30) == 0
