"""Attacks over HTTP: what one caller can send to the gateway and to the page with ten megabytes.

An attack is bytes for connections, sent as fast as they are taken or piece by piece, at the same time on all
connections. Answers are read unless the attack is that nobody reads them.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

from benchmarks._attack_calls import Sent
from benchmarks._attack_images import jpeg_of_scans, png, small_jpeg
from cir.channel import HEADER

_MOST = 9_500_000
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_SEARCH = "/v1/catalogs/shop:search"
_UPSERT = "/v1/catalogs/shop/items:batchUpsert"


@dataclass(frozen=True, slots=True)
class HttpAttack:
    """Bytes to send to "gateway" or "page", connection by connection; `build` gets the attacker's key.

    With `pause` they go out in pieces of `piece` bytes, so many seconds apart. `hold` are seconds that
    connections stay open at the end, where answers are read.
    """

    name: str
    service: str
    build: Callable[[str], Sequence[bytes]]
    read: bool = True
    piece: int = 65_536
    pause: float = 0.0
    hold: float = 3.0


async def send(address: str, attack: HttpAttack, key: str, result: Sent) -> None:
    """Carry out an attack on "host:port"."""

    async def one(content: bytes) -> None:
        host, _, port = address.rpartition(":")
        try:
            reader, writer = await asyncio.open_connection(
                host, int(port), limit=65_536 if attack.read else 1
            )
        except OSError:
            result.refused_connections += 1
            return
        reading = asyncio.create_task(_count_answers(reader, result)) if attack.read else None
        with suppress(OSError, TimeoutError):
            for place in range(0, len(content), attack.piece):
                writer.write(content[place : place + attack.piece])
                await asyncio.wait_for(writer.drain(), 10)
                result.sent += len(content[place : place + attack.piece])
                if attack.pause:
                    await asyncio.sleep(attack.pause)
        await asyncio.sleep(attack.hold)
        if reading is not None:
            reading.cancel()
        writer.transport.abort()

    await asyncio.gather(*(one(content) for content in attack.build(key)))


async def _count_answers(reader: asyncio.StreamReader, result: Sent) -> None:
    with suppress(OSError):
        while received := await reader.read(65_536):
            result.codes.update(int(code) for code in _STATUS.findall(received))


def _head(verb: str, path: str, key: str = "", **headers: object) -> bytes:
    fields = {"host": "127.0.0.1"} | ({HEADER: key} if key else {})
    fields |= {name.replace("_", "-"): str(value) for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{verb} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


def _post(path: str, key: str, body: bytes, **headers: object) -> bytes:
    kind = {"content_type": "application/json", "content_length": len(body)} | headers
    return _head("POST", path, key, **kind) + body


def _json(path: str, body: Callable[[], bytes], connections: int = 1) -> Callable[[str], list[bytes]]:
    """One body for each connection, of which all together are 10 MB at most."""
    return lambda key: [_post(path, key, body())] * connections


def _of(element: bytes, size: int = _MOST, before: bytes = b'{"turns":[') -> Callable[[], bytes]:
    """JSON of one element over and over."""
    return lambda: before + b",".join([element] * (size // (len(element) + 1))) + b"]}"


def _names(twice: bool) -> bytes:
    names = [f'"{number:x}":0' for number in range(900_000)]
    return ("{" + ",".join([*names, *(['"z":1', '"z":2'] if twice else [])]) + "}").encode()


def _payload_of_names() -> bytes:
    fields = ",".join(f'"{number:x}":0' for number in range(900_000))
    return f'{{"items":[{{"item":{{"id":"a","payload":{{{fields}}}}}}}]}}'.encode()


def _text(body: object) -> bytes:
    return json.dumps(body).encode()


def _searches(key: str, count: int, **fields: object) -> bytes:
    return _post(_SEARCH, key, _text({"turns": [{"text": "red"}], **fields})) * count


def _of_one_byte(key: str) -> list[bytes]:
    """A body in chunks of one byte."""
    head = _head("POST", _SEARCH, key, content_type="application/json", transfer_encoding="chunked")
    return [head + b"1\r\na\r\n" * (_MOST // 6 // 4)] * 4


def _parameters(key: str) -> list[bytes]:
    """Requests whose addresses are as long as a head may be, of parameters alone."""
    return [_head("GET", "/v1/catalogs?" + "a&" * 15_000, key) * 10] * 30


def _multipart(*parts: bytes, size: int = 0) -> bytes:
    body = b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"
    kind = "multipart/form-data; boundary=x"
    return _head("POST", "/go", content_type=kind, content_length=size or len(body)) + body


def _upload(content: bytes) -> bytes:
    return _multipart(b'Content-Disposition: form-data; name="picture"; filename="a"\r\n\r\n' + content)


def _uploads(content: Callable[[], bytes], count: int = 16) -> Callable[[str], list[bytes]]:
    def build(_: str) -> list[bytes]:
        one = _upload(content())
        return [one] * max(1, min(count, _MOST // len(one)))

    return build


def _pages(count: int, connections: int, turns: int = 16) -> Callable[[str], list[bytes]]:
    """Pages of conversations that nobody has had before."""

    def build(_: str) -> list[bytes]:
        return [
            b"".join(
                _head("GET", "/?c=shop&" + "&".join(f"x{t}=red+{c}+{n}+{t}" for t in range(turns)))
                for n in range(count)
            )
            for c in range(connections)
        ]

    return build


def _long_addresses(_: str) -> list[bytes]:
    return [_head("GET", "/?" + "f=a:b&" * 3_900) * 10] * 30


def _addresses(parameters: str) -> Callable[[str], list[bytes]]:
    """Addresses of about as many parameters as a conversation may have."""
    one = _head("GET", f"/?c=shop&x0=red&{parameters}")
    return lambda _: [one * (_MOST // 30 // len(one))] * 30


def _judged(_: str) -> list[bytes]:
    """Conversations that name as many items as an address holds."""
    return [_head("GET", "/?c=shop&x0=red&" + "&".join(f"l0=item-{n}" for n in range(2_000))) * 10] * 30


def _thumbnails(_: str) -> list[bytes]:
    return [
        b"".join(_head("GET", f"/picture?c=shop&i={quote(f'item-{n}')}&size=large") for n in range(300))
    ] * 20


def _slow_uploads(_: str) -> list[bytes]:
    begun = _upload(bytes(2000))
    return [begun[: len(begun) - 1000]] * 60


def _slow_bodies(key: str) -> list[bytes]:
    head = _head("POST", _SEARCH, key, content_type="application/json", content_length=1_000_000)
    return [head + b" " * 60] * 300


_GATEWAY: tuple[HttpAttack, ...] = (
    HttpAttack("JSON of 3 million empty objects", "gateway", _json(_SEARCH, _of(b"{}"))),
    HttpAttack("JSON of 3 million empty lists", "gateway", _json(_SEARCH, _of(b"[]"))),
    HttpAttack("JSON of 5 million numbers", "gateway", _json(_SEARCH, _of(b"1"))),
    HttpAttack("40 bodies of 75,000 empty objects", "gateway", _json(_SEARCH, _of(b"{}", 230_000), 40)),
    HttpAttack("JSON of 900,000 names", "gateway", _json(_SEARCH, lambda: _names(False))),
    HttpAttack("JSON of 900,000 names, the last twice", "gateway", _json(_SEARCH, lambda: _names(True))),
    HttpAttack("JSON of a payload of 900,000 names", "gateway", _json(_UPSERT, _payload_of_names)),
    HttpAttack("JSON of 9 million levels", "gateway", _json(_SEARCH, lambda: b'{"a":' + b"[" * _MOST)),
    HttpAttack("JSON of a number of 9 million digits", "gateway", _json(_SEARCH, _of(b"1" * 9_000_000))),
    HttpAttack(
        "JSON of a fraction of 9 million digits", "gateway", _json(_SEARCH, _of(b"0." + b"1" * 9_000_000))
    ),
    HttpAttack(
        "JSON text of 9 MB of escapes",
        "gateway",
        _json(_SEARCH, _of(b'{"text":"' + b"\\u0301" * 1_500_000 + b'"}')),
    ),
    HttpAttack(
        "10 gzip bodies of 900 MB",
        "gateway",
        lambda key: [_post(_SEARCH, key, gzip.compress(b"[" * 900_000_000), content_encoding="gzip")] * 10,
    ),
    HttpAttack("300 bodies that do not come", "gateway", _slow_bodies, hold=6.0),
    HttpAttack("1,100 silent connections to HTTP", "gateway", lambda key: [b""] * 1_100, hold=6.0),
    HttpAttack(
        "heads of a byte at a time",
        "gateway",
        lambda key: [_head("GET", "/v1/info", key)[:-2]] * 300,
        piece=1,
        pause=0.1,
    ),
    HttpAttack("a body in 1.5 million chunks", "gateway", _of_one_byte),
    HttpAttack("300 addresses of 15,000 parameters", "gateway", _parameters),
    HttpAttack("2,000 searches at a time", "gateway", lambda key: [_searches(key, 20)] * 100, hold=6.0),
    HttpAttack(
        "1,000 pages of JSON that nobody reads",
        "gateway",
        lambda key: [_searches(key, 10, pageSize=200, explainResults=True)] * 100,
        read=False,
        hold=6.0,
    ),
    HttpAttack(
        "9 MB of base64 that is no image",
        "gateway",
        _json(_SEARCH, lambda: _text({"turns": [{"reference": {"image": "A" * 9_000_000}}]})),
    ),
    HttpAttack(
        "30 times 256 texts in OpenAI's shape",
        "gateway",
        lambda key: [
            _post("/v1/embeddings", key, _text({"input": [f"{c} {n} " + "word " * 40 for n in range(256)]}))
            for c in range(30)
        ],
        hold=6.0,
    ),
    HttpAttack(
        "40 costly images over HTTP",
        "gateway",
        _json(
            _SEARCH,
            lambda: _text(
                {"turns": [{"reference": {"image": base64.b64encode(jpeg_of_scans(490)).decode()}}]}
            ),
            40,
        ),
        hold=8.0,
    ),
)
_PAGE: tuple[HttpAttack, ...] = (
    HttpAttack("16 uploads of 1 x 64,000,000", "page", _uploads(lambda: png(1, 64_000_000, colour=0))),
    HttpAttack("16 uploads of 490 scans", "page", _uploads(lambda: jpeg_of_scans(490)), hold=8.0),
    HttpAttack("an upload of 9 MB of headers", "page", lambda _: [_multipart(b"a:b\r\n" * 1_900_000)]),
    HttpAttack("an upload of a header of 9 MB", "page", lambda _: [_multipart(b"a:" + b"b" * 9_000_000)]),
    HttpAttack(
        "an upload of 150,000 fields",
        "page",
        lambda _: [_multipart(*[b'Content-Disposition: form-data; name="a"\r\n\r\n'] * 150_000)],
    ),
    HttpAttack(
        "an upload of beginnings of its boundary", "page", lambda _: [_upload(b"\r\n--\r\n-" * 1_300_000)]
    ),
    HttpAttack("60 uploads that do not come", "page", _slow_uploads, hold=6.0),
    HttpAttack("400 small uploads", "page", _uploads(small_jpeg, 400)),
    HttpAttack("1,000 pages of 16 turns", "page", _pages(10, 100), hold=6.0),
    HttpAttack("1,000 pages that nobody reads", "page", _pages(10, 100), read=False, hold=6.0),
    HttpAttack("300 addresses of 3,900 filters", "page", _long_addresses, hold=6.0),
    HttpAttack("300 addresses of 2,000 liked items", "page", _judged, hold=6.0),
    HttpAttack("2,600 addresses of 590 filters", "page", _addresses("f=a:b&" * 590), hold=6.0),
    HttpAttack(
        "2,600 pages of 300 hidden items",
        "page",
        _addresses("&".join(f"e=item-{n}" for n in range(300))),
        hold=6.0,
    ),
    HttpAttack(
        "30,000 addresses that are wrong", "page", lambda _: [_head("GET", "/?w0=900") * 100] * 300, hold=6.0
    ),
    HttpAttack(
        "140 forms of 16,000 parameters",
        "page",
        lambda _: (
            [_post("/go", "", b"q=" + b"a%26" * 16_000, content_type="application/x-www-form-urlencoded")]
            * 140
        ),
        hold=6.0,
    ),
    HttpAttack("6,000 thumbnails", "page", _thumbnails, hold=6.0),
    HttpAttack("600 silent connections to the page", "page", lambda _: [b""] * 600, hold=6.0),
    HttpAttack(
        "heads of the page, a byte at a time",
        "page",
        lambda _: [_head("GET", "/")[:-2]] * 300,
        piece=1,
        pause=0.1,
    ),
)
ATTACKS: tuple[HttpAttack, ...] = (*_GATEWAY, *_PAGE)
"""Every attack over HTTP."""
