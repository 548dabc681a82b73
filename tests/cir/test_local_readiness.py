"""Whether a child takes calls, against a server with TLS settings of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from cir.failure import Failure
from cir.local.plan import ServiceSpec, UpOptions, plan
from cir.local.readiness import own_tls, takes_calls
from service_runtime.tls import TlsServerFiles
from tests.service_runtime.certificates import Authority, Pair

NAME = "cir.search.v1.SearchService"
Start = Callable[[Pair, Path | None], ServiceSpec]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """A server with a certificate, and the settings of the search service that say the same."""
    servicer = health.HealthServicer()
    servicer.set(NAME, health_pb2.HealthCheckResponse.SERVING)
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)

    def run(pair: Pair, client_ca: Path | None) -> ServiceSpec:
        for name, path in (("CERTIFICATE", pair.certificate), ("KEY", pair.key), ("CLIENT_CA", client_ca)):
            if path is not None:
                monkeypatch.setenv(f"CIR_SEARCH_TLS_{name}", str(path))
        files = TlsServerFiles(pair.certificate, pair.key, client_ca)
        credentials = grpc.dynamic_ssl_server_credentials(
            files.read(),
            lambda: None,  # type: ignore[arg-type,return-value]  # None is documented
            client_ca is not None,
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        return ServiceSpec("search", "search_service", f"127.0.0.1:{port}", NAME, {})

    yield run
    server.stop(0).wait()


@pytest.mark.parametrize("mutual", [False, True])
def test_a_child_is_trusted_by_its_own_certificate(start: Start, authority: Authority, mutual: bool) -> None:
    pair = authority.issue("own")
    spec = start(pair, authority.file if mutual else None)
    assert takes_calls(spec, None) is False
    tls = own_tls("search_service")
    assert takes_calls(spec, tls) is True
    # Nobody listens there yet, which is no failure.
    unused = ServiceSpec("search", "search_service", "127.0.0.1:1", NAME, {})
    assert takes_calls(unused, tls) is False
    web = plan(UpOptions(Path("data"), "m", "p", "127.0.0.1", 1, 2, 3, web_port=4, search_tls=tls))[-1]
    sent = {name.rpartition("_")[2]: value for name, value in web.environment.items() if "SEARCH_" in name}
    own = {"CA": str(pair.certificate)}
    assert sent == (own | {"CERTIFICATE": str(pair.certificate), "KEY": str(pair.key)} if mutual else own)


def test_a_certificate_that_can_never_fit_is_told_at_once(start: Start, authority: Authority) -> None:
    spec = start(authority.issue("own", names=("shop.example",)), None)
    with pytest.raises(
        Failure, match=r"search cannot be reached over TLS at 127\.0\.0\.1:.*name that address"
    ):
        takes_calls(spec, own_tls("search_service"))


def test_a_certificate_that_the_child_refuses_is_told_at_once(
    start: Start, authority: Authority, tmp_path: Path
) -> None:
    spec = start(authority.issue("own"), Authority(tmp_path, "clients").file)
    with pytest.raises(Failure, match=r"hangs up on its own certificate.*its own tls_client_ca lets in"):
        takes_calls(spec, own_tls("search_service"))


def test_settings_that_the_child_refuses_are_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIR_SEARCH_PORT", "many")
    assert own_tls("search_service") is None
