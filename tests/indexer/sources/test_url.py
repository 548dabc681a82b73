"""Images from a server that misbehaves in every way."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from indexer.sources.base import ImageError
from indexer.sources.url import UrlImage
from service_runtime.web_images import Fetching, UrlNotAllowed, UrlRules
from tests.hosts import has_ipv6

pytestmark = pytest.mark.service

# Answers that are no HTTP, or nearly: status and headers by path.
STRANGE: dict[str, tuple[str, dict[str, str]]] = {
    "/strange-place": ("302", {"Location": "http://[::1/x"}),
    "/strange-name": ("302", {"Location": "http://" + "a" * 70 + ".localhost/x"}),
    "/strange-wait": ("503", {"Retry-After": "\xb2"}),
    "/strange-length": ("200", {"Content-Length": "\xb2"}),
    "/strange-long-wait": ("503", {"Retry-After": "9" * 5000}),
    "/strange-long-length": ("200", {"Content-Length": "9" * 5000}),
}
IMAGE = b"\xff\xd8" + bytes(range(200)) + b"\xff\xd9"


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, certificate: trustme.LeafCert | None = None, host: str = "127.0.0.1") -> None:
        self.asked: list[str] = []
        self.hosts: list[str] = []
        self.scheme = "https" if certificate else "http"
        self.elsewhere = ""
        super().__init__((host, 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Handshakes that a client breaks off are what these tests are about."""

    def url(self, path: str) -> str:
        return f"{self.scheme}://localhost:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.hosts.append(self.headers["Host"])
        tries = self.server.asked.count(self.path)
        match self.path:
            case "/ok" | "/a%20b?x=1":
                self.answer(200, IMAGE)
            case "/busy" if tries < 3:
                self.answer(503 if tries == 1 else 429, b"", {"Retry-After": "0"})
            case "/busy" | "/cut" if tries > 1:
                self.answer(200, IMAGE)
            case "/cut":
                self.answer(200, IMAGE[:20], {"Content-Length": str(len(IMAGE))})
                self.close_connection = True
            case "/down":
                self.answer(500, b"")
            case "/empty":
                self.answer(200, b"")
            case "/big":
                self.answer(200, bytes(2000))
            case "/endless":
                self.answer(200, bytes(5000), {"Content-Length": None})
                self.close_connection = True
            case "/loop":
                self.answer(302, b"", {"Location": "/loop"})
            case "/hop":
                self.answer(302, b"", {"Location": "/ok"})
            case "/elsewhere":
                self.answer(302, b"", {"Location": "http://evil.example/ok"})
            case "/over":
                self.answer(302, b"", {"Location": self.server.elsewhere})
            case "/inside":
                self.answer(301, b"", {"Location": "file:///etc/passwd"})
            case "/zip":
                self.answer(200, IMAGE, {"Content-Encoding": "gzip"})
            case "/drip":
                self.send_response(200)
                self.end_headers()
                try:
                    for _ in range(100):
                        self.wfile.write(b"x")
                        self.wfile.flush()
                        time.sleep(0.05)
                except OSError:
                    self.close_connection = True
            case _ if (found := STRANGE.get(self.path)) is not None:
                self.answer(int(found[0]), b"", {"Content-Length": "0", **found[1]})
            case _:
                self.answer(404, b"")

    def answer(self, status: int, body: bytes, headers: dict[str, str | None] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(certificate: trustme.LeafCert | None = None) -> Iterator[Server]:
    with Server(certificate) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """The one that this process trusts."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return made


def image(server: Server, path: str, *others: Server, private: bool = True, seconds: float = 5.0) -> UrlImage:
    ports = [each.server_address[1] for each in (server, *others)]
    rules = UrlRules(
        tuple(f"{name}:{port}" for port in ports for name in ("localhost", "127.0.0.1")), private
    )
    return UrlImage(server.url(path), Fetching(rules, seconds, sleep=lambda _: None))


@pytest.mark.parametrize("path", ["/ok", "/hop", "/busy", "/cut", "/a%20b?x=1"])
def test_images_come_over_redirects_and_after_refusals(server: Server, path: str) -> None:
    assert image(server, path).read(1000) == IMAGE
    assert set(server.hosts) == {f"localhost:{server.server_address[1]}"}


@pytest.mark.parametrize(
    ("path", "reason", "told"),
    [
        ("/down", "URL_FAILED", "500"),
        ("/empty", "IMAGE_EMPTY", "no bytes"),
        ("/big", "IMAGE_TOO_MANY_BYTES", "2000 bytes"),
        ("/endless", "IMAGE_TOO_MANY_BYTES", "more than the 1000"),
        ("/loop", "URL_FAILED", "redirects more than 3"),
        ("/elsewhere", "URL_NOT_ALLOWED", r"evil\.example"),
        ("/inside", "URL_NOT_ALLOWED", "file:///etc/passwd"),
        ("/zip", "URL_FAILED", "compressed"),
        ("/nothing", "IMAGE_MISSING", "404"),
    ],
)
def test_everything_else_is_refused(server: Server, path: str, reason: str, told: str) -> None:
    with pytest.raises(ImageError, match=told) as caught:
        image(server, path).read(1000)
    assert caught.value.reason == reason
    assert server.asked.count("/loop") <= 4
    assert server.asked.count("/down") in (0, 4)


@pytest.mark.parametrize("path", STRANGE)
def test_an_answer_that_is_nearly_http_is_a_refusal(server: Server, path: str) -> None:
    port = server.server_address[1]
    rules = UrlRules((f"localhost:{port}", "*.localhost"), private=True)
    with pytest.raises(ImageError) as caught:
        UrlImage(server.url(path), Fetching(rules, 5.0, sleep=lambda _: None)).read(1000)
    assert caught.value.reason in ("URL_FAILED", "URL_NOT_ALLOWED", "IMAGE_EMPTY")


def test_a_server_that_drips_is_left(server: Server) -> None:
    with pytest.raises(ImageError, match="longer than the time"):
        image(server, "/drip", seconds=0.3).read(1000)


def test_the_address_that_is_connected_to_is_checked(server: Server) -> None:
    with pytest.raises(ImageError, match="not on the public internet") as caught:
        image(server, "/ok", private=False).read(1000)
    assert caught.value.reason == "URL_NOT_ALLOWED"
    assert not server.asked


def test_a_name_that_leads_inside_as_well_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", ("10.0.0.1", 80))]
    monkeypatch.setattr("service_runtime.web_images.socket.getaddrinfo", lambda *_, **__: both)
    with pytest.raises(ImageError, match=r"10\.0\.0\.1"):
        image(server, "/ok", private=False).read(1000)


def test_a_server_that_is_away_is_tried_again_and_told(server: Server) -> None:
    rules = UrlRules(("127.0.0.1:1",), private=True)
    away = UrlImage("http://127.0.0.1:1/x", Fetching(rules, sleep=lambda _: None))
    with pytest.raises(ImageError, match="4 attempts") as caught:
        away.read(1000)
    assert caught.value.reason == "URL_FAILED"


def test_over_https_from_a_host_that_the_system_trusts(authority: trustme.CA) -> None:
    with serving(authority.issue_cert("localhost")) as server:
        for path in ("/ok", "/hop", "/busy"):
            assert image(server, path).read(1000) == IMAGE


@pytest.mark.parametrize(
    ("own", "name", "told"),
    [
        (False, "localhost", "local issuer"),
        (True, "other.example", "localhost.*other.example"),
        (True, "127.0.0.1", "localhost.*127.0.0.1"),
    ],
)
def test_a_certificate_that_is_not_trusted_is_refused_at_once(
    authority: trustme.CA, own: bool, name: str, told: str
) -> None:
    issuer = authority if own else trustme.CA()
    with serving(issuer.issue_cert(name)) as server:
        with pytest.raises(ImageError, match=f"certificate of localhost is refused: .*{told}") as caught:
            image(server, "/ok").read(1000)
        assert (caught.value.reason, server.asked) == ("URL_FAILED", [])


def test_a_redirect_may_lead_to_https_but_not_back(authority: trustme.CA, server: Server) -> None:
    with serving(authority.issue_cert("localhost")) as secure:
        secure.elsewhere, server.elsewhere = server.url("/ok"), secure.url("/ok")
        assert image(server, "/over", secure).read(1000) == IMAGE
        asked = len(server.asked)
        with pytest.raises(ImageError, match="redirects from https:// to http://localhost") as caught:
            image(secure, "/over", server).read(1000)
        assert (caught.value.reason, len(server.asked)) == ("URL_NOT_ALLOWED", asked)


@pytest.mark.parametrize(
    ("rule", "url", "allowed"),
    [
        ("[::1]:8000", "http://[::1]:8000/a.jpg", True),
        ("[::1]:8000", "http://[0:0:0:0:0:0:0:1]:8000/a.jpg", True),
        ("::1", "http://[::1]/a.jpg", True),
        ("[::1]", "https://[::1]/a.jpg", True),
        ("[::1]", "http://[::1]:8000/a.jpg", False),
        ("[::1]:8000", "http://[::2]:8000/a.jpg", False),
        ("Bücher.example", "http://xn--bcher-kva.example/a.jpg", True),
        ("images.example.", "http://IMAGES.example./a.jpg", True),
        ("*.example.com:8000", "http://a.b.example.com:8000/a.jpg", True),
        ("*.example.com", "http://example.com/a.jpg", False),
        ("*.example.com", "http://badexample.com/a.jpg", False),
    ],
)
def test_rules_read_hosts_in_any_spelling(rule: str, url: str, allowed: bool) -> None:
    rules = UrlRules((rule,))
    if allowed:
        rules.check_url(url)
    else:
        with pytest.raises(UrlNotAllowed, match="is not allowed"):
            rules.check_url(url)


@pytest.mark.parametrize(
    "rule", ["http://images.example", "images.example/", "a b", "", "*", "host:70000", "1.2.3"]
)
def test_a_rule_that_could_allow_nothing_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match=r"host|address"):
        UrlRules((rule,))


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
def test_a_server_on_ipv6_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    class Ipv6Server(Server):
        address_family = socket.AF_INET6

    server = Ipv6Server(host="::1")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        port = server.server_address[1]
        fetching = Fetching(UrlRules((f"[::1]:{port}",), private=True), attempts=1)
        assert UrlImage(f"http://[::1]:{port}/ok", fetching).read(1000) == IMAGE
        assert server.hosts == [f"[::1]:{port}"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
