"""Proxies: no channel takes one that it was not given, and none to this machine or a neighbour does."""

from __future__ import annotations

import ast
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.address import parse_target
from cir.channel import is_serving
from cir.client import Client
from cir.errors import InvalidArgument, Unavailable
from cir.proxy import DIRECT, proxy_options
from cir.search.v1 import search_pb2
from tests.cir.fake_search import FakeSearch

PROXY = "http://proxy.example:3128"
_ROOT = Path(__file__).resolve().parents[2]
_NEIGHBOURS = [
    *("127.0.0.1:50050", "127.8.8.8:1", "localhost:50050", "shop.localhost:1", "[::1]:50050", "search:50050"),
    *("[::ffff:127.0.0.1]:1", "cir_embedder_1:50051", "unix:/run/cir.sock", "unix-abstract:cir"),
    *("ipv4:127.0.0.1:1,127.0.0.1:2", "dns:search:50050", "dns:///localhost:1", "xds:///search"),
]


def through(target: str, **environment: str) -> str:
    """Return the proxy that a channel goes through, empty for none."""
    options = dict(proxy_options(parse_target(target), environment))
    assert bool(options["grpc.enable_http_proxy"]) is ("grpc.http_proxy" in options)
    return str(options.get("grpc.http_proxy", ""))


@given(
    st.sampled_from(_NEIGHBOURS), st.sampled_from(["grpc_proxy", "GRPC_PROXY", "http_proxy", "HTTPS_PROXY"])
)
def test_neighbours_are_called_directly(target: str, variable: str) -> None:
    assert proxy_options(parse_target(target), {variable: PROXY}) == DIRECT


@pytest.mark.parametrize("target", ["shop.example:50050", "10.0.0.1:50050", "[2001:db8::1]:1", "dns:a.b:1"])
def test_only_a_proxy_for_grpc_is_taken(target: str) -> None:
    web = ("http_proxy", "https_proxy", "all_proxy")
    assert not through(target, **dict.fromkeys((*web, *map(str.upper, web)), PROXY))
    assert through(target, grpc_proxy=PROXY) == through(target, GRPC_PROXY=PROXY) == PROXY
    assert through(target, grpc_proxy="proxy.example:3128") == PROXY


@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY", "no_grpc_proxy", "NO_GRPC_PROXY"])
@pytest.mark.parametrize(
    ("listed", "target"),
    [
        ("*", "shop.example:1"),
        ("shop.example", "shop.example:1"),
        ("other, shop.example", "SHOP.example.:1"),
        ("example", "shop.example:1"),
        (".example", "shop.example:1"),
        ("*.example", "shop.example:1"),
        ("shop.example:50050", "shop.example:50050"),
        ("10.0.0.0/8", "10.1.2.3:1"),
        ("10.1.2.3", "10.1.2.3:1"),
        ("2001:db8::/32", "[2001:db8::1]:1"),
        ("[2001:db8::1]:50050", "[2001:db8::1]:50050"),
    ],
)
def test_what_no_proxy_names_is_called_directly(variable: str, listed: str, target: str) -> None:
    assert not through(target, grpc_proxy=PROXY, **{variable: listed})


@pytest.mark.parametrize(
    ("listed", "target"),
    [
        ("ample", "shop.example:1"),
        ("hop.example", "shop.example:1"),
        ("shop.example:50051", "shop.example:50050"),
        ("10.0.0.0/8", "11.0.0.1:1"),
        ("10.0.0.0/8", "10.example:1"),
        (".", "shop.example:1"),
        ("", "shop.example:1"),
    ],
)
def test_what_it_does_not_name_is_not(listed: str, target: str) -> None:
    assert through(target, grpc_proxy=PROXY, no_proxy=listed) == PROXY


@pytest.mark.parametrize(
    "proxy", ["https://proxy:1", "socks5://proxy:1", "http://proxy", "http://", "http://h:x"]
)
def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(proxy: str) -> None:
    with pytest.raises(
        InvalidArgument, match=r"^grpc_proxy holds no proxy that can be used; expected http://host"
    ):
        proxy_options(parse_target("shop.example:1"), {"grpc_proxy": proxy.replace("://", "://me:secret@")})


@contextmanager
def _listening_proxy(asked: list[str]) -> Iterator[str]:
    """A proxy that notes where callers want to go, and refuses them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    caller, _ = listener.accept()
                except OSError:
                    return
                with caller:
                    asked.append(caller.recv(4096).decode().partition("\r\n")[0])
                    caller.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.service
def test_calls_go_where_the_rule_says(search_service: FakeSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    search_service.answers["GetSearchInfo"] = search_pb2.GetSearchInfoResponse(version="1")
    asked: list[str] = []
    with _listening_proxy(asked) as proxy:
        for name, prefix in product(("proxy", "PROXY"), ("http_", "https_", "grpc_", "all_")):
            monkeypatch.setenv(f"{prefix.upper() if name.isupper() else prefix}{name}", proxy)
        with Client(search_service.address) as client:
            assert client.info().version == "1"
        assert not is_serving(search_service.address, "")
        assert not asked
        with Client("shop.example:50050") as client, pytest.raises(Unavailable):
            client.info(timeout=5)
        assert set(asked) == {"CONNECT shop.example:50050 HTTP/1.1"}


_OPENERS = {
    "insecure_channel": "cir/channel.py",
    "secure_channel": "cir/channel.py",
    "AsyncQdrantClient": "vector_store/qdrant/client.py",
    "OTLPSpanExporter": "service_runtime/tracing.py",
    "HTTPConnectionPool": "service_runtime/web_images.py",
    "HTTPSConnectionPool": "service_runtime/web_images.py",
}
"""What opens connections, and the only file where it may be called: there the rule is applied."""
_NEVER = frozenset({"urlopen", "QdrantClient", "build_opener", "AsyncHTTPTransport"})
_MODULES_NEVER = frozenset({"requests", "httpx", "aiohttp"})
_HEALTH_CHECK = "service_runtime/health_check.py"
_ROOMS = (
    *("cir", "cir_cli", "combiner_service", "combiner_training", "embedder_service", "garments", "indexer"),
    *("search_service", "service_runtime", "vector_store", "web_demo"),
)


def test_no_connection_is_opened_outside_the_rule() -> None:
    found: set[tuple[str, str]] = set()
    for path in (path for room in _ROOMS for path in (_ROOT / room).rglob("*.py")):
        place = str(path.relative_to(_ROOT))
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in _OPENERS or name in _NEVER:
                    found.add((name, place))
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                if str(module).partition(".")[0] in _MODULES_NEVER:
                    found.add((str(module), place))
    allowed = set(_OPENERS.items())
    allowed.add(("urlopen", "service_runtime/web_images.py"))  # of a pool of its own
    # Light on purpose; a test of its own holds that it goes directly.
    allowed |= {(name, _HEALTH_CHECK) for name in ("insecure_channel", "secure_channel")}
    assert found == allowed
