"""Images that visitors bring: taken together with words, explained where refused, bounded over all."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message

from tests.web_demo.in_memory import (
    Search,
    file,
    no_web_images,
    png,
)
from web_demo.app import Pages
from web_demo.backend import SearchBackend
from web_demo.benchmark_queries import BenchmarkQueries
from web_demo.media import Thumbnails, Uploads
from web_demo.settings import DemoSettings


def test_an_image_and_words_go_together(client: TestClient) -> None:
    answer = client.post("/go", files=file(png()), data={"q": "c=other&i0=i1&x0=in+red", "x": " longer "})
    assert answer.status_code == 303
    found = re.fullmatch(
        r"\./\?c=other&i0=i1&x0=in\+red&u1=([0-9a-f]{32})&x1=longer", answer.headers["location"]
    )
    assert found
    page = client.get(answer.headers["location"].removeprefix("."))
    assert page.status_code == 200
    # A turn with a reference begins anew: what came before is shown, and that it no longer counts.
    assert page.text.count("no longer counted") == 1
    shown = client.get(f"/uploaded?n={found[1]}")
    assert shown.headers["content-type"] == "image/jpeg"
    alone = client.post("/go", files=file(b""), data={"q": "c=other", "x": "a hat"})
    assert alone.headers["location"] == "./?c=other&x0=a+hat"
    assert client.get("/go").headers["location"] == "./"


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"<svg/>", 400, "not a picture"),
        (b"x" * 60_000, 413, "too large"),
        (b"x" * 200_000, 413, "too large"),
    ],
)
def test_uploads_that_cannot_be_taken_are_explained(
    client: TestClient, content: bytes, status: int, words: str
) -> None:
    answer = client.post("/go", files=file(content))
    assert answer.status_code == status
    assert words in answer.text
    sent = {"referer": "http://testserver/?c=other&x0=hat"}
    answer = client.post("/go", files=file(content), headers=sent)
    assert 'href="./?c=other&amp;x0=hat"' in answer.text  # back to where it was sent from


def test_uploads_come_from_our_own_pages_and_not_too_many(client: TestClient) -> None:
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        assert client.post("/go", files=file(png()), headers=headers).status_code == 403
    own = {"sec-fetch-site": "same-origin"}
    statuses = [client.post("/go", files=file(png()), headers=own).status_code for _ in range(8)]
    assert statuses == [303] * 6 + [429] * 2


async def send_upload(
    application: ASGIApp, pieces: AsyncIterator[bytes], length: int, host: str
) -> tuple[int, dict[str, str]]:
    """Send an upload piece by piece, as a slow visitor does; status and headers of the answer."""
    answer: list[Message] = []

    async def receive() -> Message:
        piece = await anext(pieces, b"")
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    async def send(message: Message) -> None:
        answer.append(message)

    kind = b"multipart/form-data; boundary=b"
    await application(
        {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/go",
            "query_string": b"",
            "headers": [(b"content-type", kind), (b"content-length", str(length).encode())],
            "client": (host, 1),
        },
        receive,
        send,
    )
    return answer[0]["status"], {name.decode(): value.decode() for name, value in answer[0]["headers"]}


BODY = (
    b'--b\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n'
    + png()
    + b"\r\n--b--\r\n"
)


async def test_uploads_are_bounded_over_all_visitors(tmp_path: Path, search: Search) -> None:
    settings = DemoSettings(
        uploads_at_once=2, upload_seconds=30, uploads_per_minute=60, data=tmp_path / "web"
    )
    uploads = Uploads(
        tmp_path / "up", max_pixels=10**6, max_files=9, max_total_bytes=2000, lifetime_seconds=60
    )
    thumbnails = Thumbnails(tmp_path / "th", max_bytes=10**6, max_pixels=10**6, max_files=9)
    backend = SearchBackend(search, uploads, BenchmarkQueries(), page_size=3)  # type: ignore[arg-type]
    application = Pages(settings, backend, uploads, thumbnails, no_web_images()).application()
    held, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def slow() -> AsyncIterator[bytes]:
        yield BODY[:50]
        begun.release()
        await held.wait()
        yield BODY[50:]

    async def whole() -> AsyncIterator[bytes]:
        yield BODY

    waiting = [
        asyncio.create_task(send_upload(application, slow(), len(BODY), f"10.0.0.{number}"))
        for number in range(2)
    ]
    await asyncio.wait_for(begun.acquire(), 30)
    await asyncio.wait_for(begun.acquire(), 30)
    status, _ = await send_upload(application, whole(), len(BODY), "10.0.0.9")
    assert status == 503
    held.set()
    assert [status for status, _ in await asyncio.gather(*waiting)] == [303, 303]
    names = []
    for number in range(8):
        status, headers = await send_upload(application, whole(), len(BODY), f"10.0.1.{number}")
        assert status == 303
        names.append(headers["location"].rpartition("u0=")[2])
        os.utime(tmp_path / "up" / f"{names[-1]}.jpg", (number, number))
    kept = sorted((tmp_path / "up").iterdir())
    assert sum(path.stat().st_size for path in kept) <= 2000
    assert f"{names[-1]}.jpg" in [path.name for path in kept]
    assert f"{names[0]}.jpg" not in [path.name for path in kept]


async def test_an_upload_that_never_ends_is_given_up(tmp_path: Path, search: Search) -> None:
    settings = DemoSettings(upload_seconds=0.05, data=tmp_path / "web")
    uploads = Uploads(tmp_path / "up", max_pixels=10, max_files=9, max_total_bytes=10**6, lifetime_seconds=60)
    thumbnails = Thumbnails(tmp_path / "th", max_bytes=10**6, max_pixels=10**6, max_files=9)
    backend = SearchBackend(search, uploads, BenchmarkQueries(), page_size=3)  # type: ignore[arg-type]
    application = Pages(settings, backend, uploads, thumbnails, no_web_images()).application()

    async def endless() -> AsyncIterator[bytes]:
        yield BODY[:50]
        await asyncio.Event().wait()

    status, _ = await send_upload(application, endless(), len(BODY), "10.0.0.1")
    assert status == 408


def test_an_upload_that_cannot_be_kept_is_said(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Uploads, content: bytes) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Uploads, "store", full)
    answer = client.post("/go", files=file(png()))
    assert answer.status_code == 507
    assert "no room" in answer.text
