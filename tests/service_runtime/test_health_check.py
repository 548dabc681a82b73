"""The check of a container's health, against a server with and without mutual TLS."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from service_runtime.health_check import main

pytestmark = pytest.mark.service

NAME = "cir.search.v1.SearchService"
ARGUMENTS = (NAME, "CIR_SEARCH_", "50050")


@pytest.fixture
def servicer() -> health.HealthServicer:
    return health.HealthServicer()


@pytest.fixture
def server(servicer: health.HealthServicer) -> Iterator[grpc.Server]:
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    yield server
    server.stop(0).wait()


def test_it_reports_what_the_service_says(
    servicer: health.HealthServicer, server: grpc.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIR_SEARCH_PORT", str(server.add_insecure_port("localhost:0")))
    server.start()
    assert main(ARGUMENTS) == 1
    servicer.set(NAME, health_pb2.HealthCheckResponse.NOT_SERVING)
    assert main(ARGUMENTS) == 1
    servicer.set(NAME, health_pb2.HealthCheckResponse.SERVING)
    assert main(ARGUMENTS) == 0


def test_over_mutual_tls_it_shows_the_services_own_certificate(
    servicer: health.HealthServicer, server: grpc.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    own = authority.issue_cert("localhost")
    ca, certificate, key = (tmp_path / name for name in ("ca.crt", "own.crt", "own.key"))
    authority.cert_pem.write_to_path(str(ca))
    own.cert_chain_pems[0].write_to_path(str(certificate))
    own.private_key_pem.write_to_path(str(key))
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())], ca.read_bytes(), require_client_auth=True
    )
    monkeypatch.setenv("CIR_SEARCH_PORT", str(server.add_secure_port("localhost:0", credentials)))
    server.start()
    servicer.set(NAME, health_pb2.HealthCheckResponse.SERVING)
    assert main(ARGUMENTS) == 1
    for name, path in (("CERTIFICATE", certificate), ("KEY", key), ("CLIENT_CA", ca)):
        monkeypatch.setenv(f"CIR_SEARCH_TLS_{name}", str(path))
    assert main(ARGUMENTS) == 0


def test_the_port_may_stand_in_the_services_own_file(
    servicer: health.HealthServicer, server: grpc.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "search.toml"
    file.write_text(f"port = {server.add_insecure_port('localhost:0')}\n")
    server.start()
    servicer.set(NAME, health_pb2.HealthCheckResponse.SERVING)
    monkeypatch.setenv("CIR_SEARCH_CONFIG", str(file))
    assert main(ARGUMENTS) == 0


def test_it_imports_little() -> None:
    code = "import service_runtime.health_check, sys; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"cir", "pydantic", "numpy", "google.rpc", "tomllib"} & set(modules.split())


def test_wrong_arguments_and_wrong_settings_are_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 2
    assert main([NAME, "CIR_SEARCH_", "port"]) == 2
    assert "expected the service's full name" in capsys.readouterr().err
    monkeypatch.setenv("CIR_SEARCH_TLS_CERTIFICATE", "/nowhere/own.crt")
    assert main(ARGUMENTS) == 1
    assert f"{NAME}: [Errno 2] No such file or directory: '/nowhere/own.crt'" in capsys.readouterr().err
