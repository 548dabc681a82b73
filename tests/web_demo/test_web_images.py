"""Images of items that lie on the web: from allowed hosts, within bounds, through the page alone."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from service_runtime.errors import StartupError
from service_runtime.web_images import FetchError, Fetching, FetchProblem
from tests.web_demo.in_memory import Search, demo_client
from web_demo.settings import DemoSettings
from web_demo.web_images import TooManyFetchesError, WebImages


def png(size: tuple[int, int] = (900, 900)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "blue").save(out, "PNG")
    return out.getvalue()


IMAGE = png()


class Handler(BaseHTTPRequestHandler):
    """Serves /ok.png, /large (2 MB), /text, /hop (to /ok.png at the metadata address) and nothing else."""

    asked: list[str]

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self.asked.append(self.path)
        found = {"/ok.png": IMAGE, "/large": bytes(2_000_000), "/text": b"<svg/>"}.get(self.path)
        self.send_response(302 if self.path == "/hop" else 404 if found is None else 200)
        self.send_header("Location", "http://169.254.169.254/ok.png")
        self.send_header("Content-Length", str(len(found or b"")))
        self.end_headers()
        self.wfile.write(found or b"")


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """The address of a server of images, and the paths that it was asked for."""
    asked: list[str] = []
    handler = type("Asked", (Handler,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{made.server_address[1]}", asked
        made.shutdown()
        thread.join()


@contextmanager
def page(tmp_path: Path, locations: dict[str, str], **settings: Any) -> Iterator[TestClient]:
    search = Search(tmp_path)
    search.written = locations
    with demo_client(DemoSettings(data=tmp_path / "web", **settings), search, tmp_path) as client:
        yield client


@pytest.mark.service
def test_an_image_of_an_allowed_host_is_shown_and_kept(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    host, asked = server
    allowed: dict[str, Any] = {"allow_hosts": [host], "allow_private_hosts": True}
    with page(tmp_path, {"w": f"http://{host}/ok.png"}, **allowed) as client:
        first = client.get("/picture?c=shop&i=w", headers={"accept": "image/webp"})
        assert first.headers["content-type"] == "image/webp"
        with Image.open(io.BytesIO(first.content)) as small:
            assert small.size == (360, 360)
        assert client.get("/picture?c=shop&i=w", headers={"accept": "image/webp"}).content == first.content
        assert asked == ["/ok.png"]
        with Image.open(io.BytesIO(client.get("/picture?c=shop&i=w&size=large").content)) as large:
            assert large.size == (900, 900)
        assert len(asked) == 2
        # Kept for a day: then the image is looked at again.
        for kept in (tmp_path / "th").iterdir():
            os.utime(kept, (1, 1))
        client.get("/picture?c=shop&i=w", headers={"accept": "image/webp"})
        assert len(asked) == 3


@pytest.mark.service
@pytest.mark.parametrize("path", ["/large", "/text", "/hop", "/missing"])
def test_what_is_no_image_within_bounds_is_not_shown_and_not_asked_for_again(
    tmp_path: Path, server: tuple[str, list[str]], path: str
) -> None:
    host, asked = server
    allowed: dict[str, Any] = {"allow_hosts": [host, "169.254.169.254"], "allow_private_hosts": True}
    with page(tmp_path, {"w": f"http://{host}{path}"}, fetch_seconds=1, **allowed) as client:
        for _ in range(2):
            assert client.get("/picture?c=shop&i=w").status_code == 404
        assert asked.count(path) == (2 if path == "/text" else 1)  # /text was fetched, and is no image


@pytest.mark.service
@pytest.mark.parametrize(
    "settings",
    [{}, {"allow_hosts": ["images.example"], "allow_private_hosts": True}, {"allow_hosts": ["{host}"]}],
)
def test_no_other_address_is_asked(
    tmp_path: Path, server: tuple[str, list[str]], settings: dict[str, Any]
) -> None:
    host, asked = server
    if "allow_hosts" in settings:
        settings = settings | {"allow_hosts": [rule.format(host=host) for rule in settings["allow_hosts"]]}
    written = {"w": f"http://{host}/ok.png", "u": f"http://me:word@{host}/ok.png", "b": "http://[::1/ok.png"}
    with page(tmp_path, written, **settings) as client:
        for item in written:
            assert client.get(f"/picture?c=shop&i={item}").status_code == 404
    assert asked == []


def fetching(act: Callable[[], bytes]) -> Fetching:
    class Acting(Fetching):
        def fetch(self, url: str, max_bytes: int) -> bytes:
            return act()

    return Acting()


async def test_who_asks_at_the_same_time_is_served_by_one_fetch_and_too_many_are_turned_away() -> None:
    go, calls = threading.Event(), list[int]()

    def slow() -> bytes:
        calls.append(1)
        go.wait(30)
        return b"image"

    images = WebImages(fetching(slow), max_bytes=10, at_once=2)
    same = [asyncio.create_task(images.fetch("http://a/1")) for _ in range(5)]
    others = [asyncio.create_task(images.fetch(f"http://a/{number}")) for number in range(2, 67)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyFetchesError):
        await images.fetch("http://a/99")
    same.pop().cancel()  # one visitor leaves
    go.set()
    assert await asyncio.gather(*same, *others) == [b"image"] * 69
    assert len(calls) == 66
    images.close()


async def test_a_failure_is_remembered_and_the_host_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[int] = []

    def refused() -> bytes:
        calls.append(1)
        raise FetchError(FetchProblem.NOT_ALLOWED, "no")

    images = WebImages(fetching(refused), max_bytes=10, at_once=2)
    for url in ("http://me:word@a.example/secret?key=1", "http://a.example/2", "http://a.example/2"):
        assert await images.fetch(url) is None
    assert len(calls) == 2
    images.close()
    said = "".join(capsys.readouterr())
    assert said.count("a.example") == 1
    assert "allow_hosts" in said
    assert "secret" not in said
    assert "word" not in said


@pytest.mark.parametrize("rule", ["http://images.example", "*", "a b"])
def test_a_rule_that_could_allow_nothing_is_refused_at_the_start(rule: str) -> None:
    with pytest.raises(StartupError, match=r"^setting allow_hosts"):
        DemoSettings.load(["--allow-hosts", f'["{rule}"]'])
