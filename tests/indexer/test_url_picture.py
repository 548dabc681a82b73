"""Pictures from a server that misbehaves in every way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from indexer.picture import PictureError
from indexer.url_picture import Fetching, UrlPicture
from indexer.url_rules import UrlRules

PICTURE = b"\xff\xd8" + bytes(range(200)) + b"\xff\xd9"


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.hosts: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.hosts.append(self.headers["Host"])
        tries = self.server.asked.count(self.path)
        match self.path:
            case "/ok" | "/a%20b?x=1":
                self.answer(200, PICTURE)
            case "/busy" if tries < 3:
                self.answer(503 if tries == 1 else 429, b"", {"Retry-After": "0"})
            case "/busy" | "/cut" if tries > 1:
                self.answer(200, PICTURE)
            case "/cut":
                self.answer(200, PICTURE[:20], {"Content-Length": str(len(PICTURE))})
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
            case "/inside":
                self.answer(301, b"", {"Location": "file:///etc/passwd"})
            case "/zip":
                self.answer(200, PICTURE, {"Content-Encoding": "gzip"})
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
            case _:
                self.answer(404, b"")

    def answer(self, status: int, body: bytes, headers: dict[str, str | None] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def picture(server: Server, path: str, *, private: bool = True, seconds: float = 5.0) -> UrlPicture:
    port = server.server_address[1]
    rules = UrlRules((f"localhost:{port}", f"127.0.0.1:{port}"), private)
    return UrlPicture(f"http://localhost:{port}{path}", Fetching(rules, seconds, sleep=lambda _: None))


@pytest.mark.parametrize("path", ["/ok", "/hop", "/busy", "/cut", "/a%20b?x=1"])
def test_pictures_come_over_redirects_and_after_refusals(server: Server, path: str) -> None:
    assert picture(server, path).read(1000) == PICTURE
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
    with pytest.raises(PictureError, match=told) as caught:
        picture(server, path).read(1000)
    assert caught.value.reason == reason
    assert server.asked.count("/loop") <= 4
    assert server.asked.count("/down") in (0, 4)


def test_a_server_that_drips_is_left(server: Server) -> None:
    with pytest.raises(PictureError, match="longer than the time"):
        picture(server, "/drip", seconds=0.3).read(1000)


def test_the_address_that_is_connected_to_is_checked(server: Server) -> None:
    with pytest.raises(PictureError, match="not on the public internet") as caught:
        picture(server, "/ok", private=False).read(1000)
    assert caught.value.reason == "URL_NOT_ALLOWED"
    assert not server.asked


def test_a_name_that_leads_inside_as_well_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", ("10.0.0.1", 80))]
    monkeypatch.setattr("indexer.url_picture.socket.getaddrinfo", lambda *_, **__: both)
    with pytest.raises(PictureError, match=r"10\.0\.0\.1"):
        picture(server, "/ok", private=False).read(1000)


def test_a_server_that_is_away_is_tried_again_and_told(server: Server) -> None:
    rules = UrlRules(("127.0.0.1:1",), private=True)
    away = UrlPicture("http://127.0.0.1:1/x", Fetching(rules, sleep=lambda _: None))
    with pytest.raises(PictureError, match="4 attempts") as caught:
        away.read(1000)
    assert caught.value.reason == "URL_FAILED"
