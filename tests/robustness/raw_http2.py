"""What reaches a port below gRPC: garbage on the socket, broken HTTP/2, gRPC framing that lies."""

from __future__ import annotations

import asyncio
import gzip
import random
import struct
from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _END_HEADERS = 1, 4
OPENING = PREFACE + struct.pack(">I", 0)[1:] + bytes([_SETTINGS, 0]) + struct.pack(">I", 0)
Headers = list[tuple[str, str]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """An HTTP/2 frame (RFC 9113, section 4.1)."""
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes([kind, flags])
        + struct.pack(">I", stream & 0x7FFFFFFF)
        + payload
    )


def header_block(headers: Headers) -> bytes:
    """HPACK literals without indexing or Huffman coding (RFC 7541, section 6.2.2)."""
    out = b""
    for name, value in headers:
        out += b"\0" + _text(name) + _text(value)
    return out


def _text(text: str) -> bytes:
    content = text.encode("latin-1")
    length = len(content)
    if length < 127:
        return bytes([length]) + content
    rest, out = length - 127, bytearray([127])
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*out, rest]) + content


def request_headers(path: str, **changes: str) -> Headers:
    """Headers of a gRPC call; a change with an empty value leaves that header out."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    for name, value in changes.items():
        headers[name.replace("_", "-").replace("pseudo-", ":")] = value
    return [(name, value) for name, value in headers.items() if value]


def call(headers: Headers, data: bytes, *, ends: bool = True) -> bytes:
    """A whole connection with one call on it."""
    return (
        OPENING
        + frame(_HEADERS, _END_HEADERS, 1, header_block(headers))
        + b"".join(frame(_DATA, 0, 1, data[place : place + 16_384]) for place in range(0, len(data), 16_384))
        + (frame(_DATA, _END_STREAM, 1) if ends else b"")
    )


def message(content: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    """A gRPC message with its prefix; `length` is what the prefix says instead of the truth."""
    return bytes([flag]) + struct.pack(">I", len(content) if length is None else length) + content


def _noise(path: str, sound: bytes, source: random.Random) -> bytes:
    return source.randbytes(source.choice((1, 10, 3000)))


def _http1(path: str, sound: bytes, source: random.Random) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def _noise_after_preface(path: str, sound: bytes, source: random.Random) -> bytes:
    return source.choice((PREFACE, OPENING)) + source.randbytes(source.choice((5, 100, 3000)))


def _random_frames(path: str, sound: bytes, source: random.Random) -> bytes:
    out = OPENING
    for _ in range(source.choice((1, 5, 40))):
        payload = source.randbytes(source.choice((0, 4, 8, 100)))
        out += frame(
            source.randrange(12), source.randrange(256), source.choice((0, 1, 2, 3, 2**31 - 1)), payload
        )
    return out


def _flood(path: str, sound: bytes, source: random.Random) -> bytes:
    one = source.choice(
        (
            frame(_PING, 0, 0, b"12345678"),
            frame(_SETTINGS, 0, 0),
            frame(_WINDOW, 0, 0, struct.pack(">I", 1)),
            frame(_GOAWAY, 0, 0, b"\0" * 8),
            frame(_HEADERS, 0, 1, header_block([("a", "b")])) + frame(_CONTINUATION, 0, 1, b"\0\1a\1b"),
        )
    )
    return OPENING + one * source.choice((3, 2000))


def _rapid_reset(path: str, sound: bytes, source: random.Random) -> bytes:
    block = header_block(request_headers(path))
    return OPENING + b"".join(
        frame(_HEADERS, _END_HEADERS, stream, block) + frame(_RST, 0, stream, struct.pack(">I", 8))
        for stream in range(1, 2 * source.choice((5, 500)), 2)
    )


def _lying_length(path: str, sound: bytes, source: random.Random) -> bytes:
    length = source.choice((0, 1, len(sound) + 1, len(sound) // 2, 2**31 - 1, 2**32 - 1, 70_000_000))
    return call(request_headers(path), message(sound, length=length), ends=source.random() < 0.5)


def _lying_compression(path: str, sound: bytes, source: random.Random) -> bytes:
    encoding = source.choice(("gzip", "deflate", "identity", "br", ""))
    content = source.choice(
        (
            sound,
            gzip.compress(sound),
            gzip.compress(sound)[:-9],
            gzip.compress(b"\0" * 200_000_000, 1)
            if source.random() < 0.02
            else gzip.compress(b"\0" * 3_000_000),
            source.randbytes(100),
            b"",
        )
    )
    return call(
        request_headers(path, grpc_encoding=encoding), message(content, flag=source.choice((0, 1, 1, 2, 255)))
    )


def _wrong_headers(path: str, sound: bytes, source: random.Random) -> bytes:
    changes: dict[str, str] = source.choice(
        (
            {"content_type": "text/html"},
            {"content_type": "application/grpc+json"},
            {"content_type": ""},
            {"te": ""},
            {"pseudo_method": "GET"},
            {"pseudo_method": ""},
            {"pseudo_path": ""},
            {"pseudo_path": "no-slash"},
            {"pseudo_path": "/" + "x" * 5000},
            {"pseudo_path": path + "\xff"},
            {"pseudo_scheme": ""},
            {"pseudo_authority": ""},
            {"grpc_timeout": source.choice(("abc", "-1S", "0n", "99999999H", "999999999999S", "1Q", "5"))},
            {"grpc_accept_encoding": "nonsense"},
            {"grpc_status": "13"},
            {"x_request_id": source.choice(("x" * 7000, "\x00", "\xff", "\n"))},
            {"key_bin": "!!not base64!!"},
            {"x_long": "y" * source.choice((9000, 20_000, 400_000))},
            {"connection": "close"},
            {"UPPER": "case"},
            {"traceparent": "00-zzzz"},
            {"authorization": "Bearer " + "\xff" * 50},
        )
    )
    headers = request_headers(path, **changes)
    block = header_block(headers)
    if len(block) > 16_000:
        parts = [block[place : place + 16_000] for place in range(0, len(block), 16_000)]
        opening = OPENING + frame(_HEADERS, 0, 1, parts[0])
        for part in parts[1:-1]:
            opening += frame(_CONTINUATION, 0, 1, part)
        return (
            opening
            + frame(_CONTINUATION, _END_HEADERS, 1, parts[-1])
            + frame(_DATA, _END_STREAM, 1, message(sound))
        )
    return call(headers, message(sound))


def _two_messages(path: str, sound: bytes, source: random.Random) -> bytes:
    return call(request_headers(path), source.choice((b"", message(sound) * 2, message(sound) + b"\0\0")))


def _half_open(path: str, sound: bytes, source: random.Random) -> bytes:
    whole = call(request_headers(path), message(sound))
    return whole[: source.randrange(len(whole))]


ATTACKS: tuple[Callable[[str, bytes, random.Random], bytes], ...] = (
    _noise,
    _http1,
    _noise_after_preface,
    _random_frames,
    _flood,
    _rapid_reset,
    _lying_length,
    _lying_compression,
    _lying_compression,
    _wrong_headers,
    _wrong_headers,
    _two_messages,
    _half_open,
)


async def send(address: str, content: bytes, *, patience: float = 0.4) -> bytes:
    """Send bytes to "host:port" on a connection of their own; returns what came back until it paused."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answer = b""
    try:
        writer.write(content)
        await asyncio.wait_for(writer.drain(), 5)
        while part := await asyncio.wait_for(reader.read(65_536), patience):
            answer += part
            if status_of(answer) is not None:
                break
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return answer


def status_of(answer: bytes) -> int | None:
    """The grpc-status that an answer carries, where it is written as a literal."""
    place = answer.find(b"grpc-status")
    if place < 0:
        return None
    length = answer[place + 11] if place + 11 < len(answer) else 0
    digits = answer[place + 12 : place + 12 + length]
    return int(digits) if digits.isdigit() else None
