"""What every page is sent with, below which path, and how failures are told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlencode, urljoin
from xml.etree import ElementTree

import grpc
import pytest
from starlette.testclient import TestClient

from cir.errors import CirError, FailedPrecondition, InvalidArgument, Unavailable
from service_runtime.errors import StartupError
from tests.web_demo.in_memory import (
    HOSTILE,
    Search,
    demo_client,
    file,
    png,
)
from web_demo.delivery import CONTENT_SECURITY_POLICY, PathPrefix, static_versions
from web_demo.settings import DemoSettings


def test_what_a_catalog_says_is_shown_and_never_run(client: TestClient, search: Search) -> None:
    search.payload["<b>field</b>"] = "</dd><img src=x onerror=alert(1)>"
    for url in ("/", "/?c=shop&x0=" + urlencode({"": HOSTILE})[1:], "/item?c=shop&i=i1"):
        answer = client.get(url)
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        assert "<b>field" not in answer.text
        assert " onerror" not in answer.text.replace("&lt;img src=x onerror", "")


def test_every_answer_has_the_headers(client: TestClient) -> None:
    for url in ("/", "/nowhere", "/static/page.js", "/healthz", "/picture?c=shop&i=i1", "/?w0=x"):
        headers = client.get(url).headers
        assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "cache-control" in headers
    assert "unsafe" not in CONTENT_SECURITY_POLICY


def test_pages_have_no_inline_script_or_style(client: TestClient) -> None:
    for url in ("/", "/?c=shop&i0=a&x0=in+red&v=sum", "/about", "/item?c=shop&i=i1", "/nowhere"):
        page = client.get(url).text
        assert (
            re.findall(r"<script(?! type=\"module\" fetchpriority=\"low\" src=\"(?:\.\./)*static/)", page)
            == []
        )
        assert " style=" not in page
        assert "<style" not in page
        assert re.search(r"\son[a-z]+=", re.sub(r"alert.*?&gt;", "", page)) is None
        assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("origin", "taken"),
    [
        ("http://shop.example", True),
        ("http://SHOP.example", True),
        ("https://shop.example:8443", True),
        ("http://testserver", True),
        ("https://shop.example", False),
        ("http://shop.example.evil", False),
        ("null", False),
    ],
)
def test_a_proxy_may_change_the_host(tmp_path: Path, search: Search, origin: str, taken: bool) -> None:
    settings = DemoSettings(
        data=tmp_path / "web", origins=["http://Shop.example/", "https://shop.example:8443"]
    )
    with demo_client(settings, search, tmp_path) as client:
        answer = client.post("/go", files=file(png()), headers={"origin": origin})
    assert answer.status_code == (303 if taken else 403)


@pytest.mark.parametrize(
    "origin", ["shop.example", "ftp://shop.example", "http://", "http://a/b", "http://a:x"]
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(StartupError, match=r"^setting origins"):
        DemoSettings.load(["--origins", json.dumps([origin])])


@pytest.mark.parametrize(
    ("url", "status", "words"),
    [
        ("/?c=nothing", 404, "no such page or item"),
        ("/?w0=900", 400, "not a number from 0 to 100"),
        ("/item?c=shop&i=missing", 404, "no such page or item"),
        ("/picture?c=shop&i=missing", 404, "no such page or item"),
        ("/uploaded?n=../../x", 404, "no such page or item"),
        ("/nowhere", 404, "no such page or item"),
    ],
)
def test_what_is_not_there_is_said_in_words(client: TestClient, url: str, status: int, words: str) -> None:
    answer = client.get(url)
    assert answer.status_code == status
    assert words in answer.text


@pytest.mark.parametrize("item_id", ["i2", "<b>&\x01\ufffe" + "x" * 60])
def test_an_item_without_a_picture_has_a_tile_with_its_id(client: TestClient, item_id: str) -> None:
    answer = client.get("/picture", params={"c": "shop", "i": item_id, "size": "large"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "image/svg+xml")
    label = ElementTree.fromstring(answer.text).findtext("{*}text") or ""  # our own
    assert label == (item_id if item_id == "i2" else "<b>&  " + "x" * 17 + "…")


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (Unavailable("away", code=grpc.StatusCode.UNAVAILABLE), 503, "tries again by itself"),
        (FailedPrecondition("model x, not y", reason="MODEL_MISMATCH"), 409, "another model"),
        (InvalidArgument("too many turns", reason="FIELD_INVALID"), 400, "too many turns"),
    ],
)
def test_failures_of_the_search_service_are_explained(
    client: TestClient, search: Search, error: CirError, status: int, words: str
) -> None:
    search.error = error
    answer = client.get("/?c=shop&x0=a", headers={"accept-language": "en"})
    assert answer.status_code == status
    assert words in answer.text
    assert ("data-retry" in answer.text) == (status == 503)
    assert ("unavailable" in answer.text) == (status == 503)
    assert client.get("/healthz").json() == {"status": "ok"}
    search.error = None
    assert client.get("/?c=shop&x0=a").status_code == 200


def test_pages_are_compressed_and_static_files_kept(client: TestClient) -> None:
    for turns in (1, 16):
        query = urlencode([("c", "shop"), *((f"x{number}", "w" * 120) for number in range(turns))])
        with client.stream("GET", f"/?{query}") as answer:
            sent = b"".join(answer.iter_raw())
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["cache-control"] == "private, no-cache"
        assert len(sent) < 12_000
    files = set(re.findall(r'(?:src|href)="(static/[^"]+)"', client.get("/").text))
    assert len(files) == len(static_versions()) - 1  # queries.js is for queries with known answers
    for name in files:
        assert client.get(f"/{name}").headers["cache-control"] == "public, max-age=31536000, immutable"
        assert client.get(f"/{name}0").headers["cache-control"] == "private, no-cache"
        assert client.get(f"/{name.partition('?')[0]}").headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("prefix", ["", "/try/cir"])
def test_pages_may_lie_below_a_path(client: TestClient, prefix: str) -> None:
    below = TestClient(PathPrefix(client.app, "/try/cir"), follow_redirects=False)
    assert below.get(f"{prefix}/?c=shop&x0=hat").status_code == 200
    for path in ("/", "/?c=shop&x0=hat", "/item?c=shop&i=i1", "/about", "/a/b/c", "/nowhere"):
        page = below.get(prefix + path).text
        assert re.findall(r'(?:src|href|action|data-more)="/[^"]*"', page) == []
        for address in re.findall(r'(?:src|href)="((?:\.\./)*static[^"]*)"', page):
            place = urljoin(f"http://testserver{prefix}{path}", address)
            assert place.startswith(f"http://testserver{prefix}/static/")
            assert below.get(place).status_code == 200


@pytest.mark.parametrize("path", ["try", "//try", "/try?x", "/#"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(StartupError, match=r"^setting root_path"):
        DemoSettings.load(["--root-path", path])
