"""Further attacks: floods below gRPC, answers that nobody reads, costly valid requests, large images."""

from __future__ import annotations

import asyncio
import io
import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
from PIL import Image

from benchmarks._attack_calls import CATALOG, COMBINE, EMBEDDER, SEARCH, Attack, Call, Sent
from benchmarks._attack_images import chunk, png, small_jpeg
from cir.channel import HEADER
from cir.combiner.v1 import combiner_pb2
from cir.common.v1 import payload_pb2, vectors_pb2
from cir.embedder.v1 import embedder_pb2
from cir.search.v1 import catalog_pb2, search_pb2
from cir.vectors import pack
from tests.robustness import raw_http2

_MOST = 9_500_000
_HEADERS, _SETTINGS, _PING, _CONTINUATION = 1, 4, 6, 9
Bytes = Callable[[str], Sequence[bytes]]


async def send_raw(address: str, connections: Sequence[bytes], result: Sent, hold: float = 4.0) -> None:
    """Send bytes on connections, read nothing of what comes back, and hang up after `hold` seconds."""

    async def one(content: bytes) -> None:
        host, _, port = address.rpartition(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port), limit=1)
        except OSError:
            result.refused_connections += 1
            return
        with suppress(OSError, TimeoutError):
            for place in range(0, len(content), 65_536):
                writer.write(content[place : place + 65_536])
                await asyncio.wait_for(writer.drain(), 10)
                result.sent += len(content[place : place + 65_536])
            await asyncio.sleep(hold)
        writer.transport.abort()

    await asyncio.gather(*(one(content) for content in connections))


def _pings(_: str) -> list[bytes]:
    return [raw_http2.OPENING + raw_http2.frame(_PING, 0, 0, b"12345678") * (_MOST // 17 // 4)] * 4


def _settings(_: str) -> list[bytes]:
    one = raw_http2.frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535))
    return [raw_http2.OPENING + one * (_MOST // len(one) // 4)] * 4


def _endless_headers(_: str) -> list[bytes]:
    """Headers that go on and on in CONTINUATION frames."""
    block = raw_http2.header_block([("a", "b" * 8000)])
    begin = raw_http2.frame(_HEADERS, 0, 1, raw_http2.header_block(raw_http2.request_headers(SEARCH)))
    return [raw_http2.OPENING + begin + raw_http2.frame(_CONTINUATION, 0, 1, block) * (_MOST // 8020)]


def _referenced_headers(_: str) -> list[bytes]:
    """Calls whose metadata name one header of 3,900 bytes, kept in the HPACK table, 3,000 times each."""
    headers = raw_http2.header_block(raw_http2.request_headers(SEARCH))
    kept = b"\x40\x01x" + b"\x7f" + bytes([3900 - 127 & 127 | 128, 3900 - 127 >> 7]) + b"y" * 3900
    out = raw_http2.OPENING
    for number in range(800):
        block = headers + (kept if number == 0 else b"") + b"\xbe" * 3000
        out += raw_http2.frame(_HEADERS, 4, 2 * number + 1, block)
    return [out] * 3


def _unread_answers(key: str) -> list[bytes]:
    """Searches for pages of 200 with vectors, whose answers find no window to be sent in."""
    request = search_pb2.SearchRequest(
        parent="catalogs/shop", turns=[search_pb2.Turn(text="red")], page_size=200, exact=True
    )
    settings = raw_http2.PREFACE + raw_http2.frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, 0))
    headers = raw_http2.header_block([*raw_http2.request_headers(SEARCH), (HEADER, key)])
    content = raw_http2.message(request.SerializeToString())
    calls = b"".join(
        raw_http2.frame(_HEADERS, 4, stream, headers) + raw_http2.frame(0, 1, stream, content)
        for stream in range(1, 1200, 2)
    )
    return [settings + calls] * 10


def _search(request: search_pb2.SearchRequest, count: int, connections: int = 1) -> list[list[Call]]:
    return [[Call(SEARCH, request.SerializeToString())] * count for _ in range(connections)]


def _strange_texts() -> list[list[Call]]:
    """Texts of the longest kind allowed, of entities, marks and letters that are repaired or cut to bits."""
    parts = ("&amp;amp;lt;", "â€™Ã©", "\u0344\u0345", "ﷺ", "🏳️‍🌈", "'''\"\"\"", "\u1160\u11a8", "x͓̽")
    texts = [(part * 1000)[:1000] for part in parts]
    turns = [search_pb2.Turn(text=text) for text in texts * 2]
    return _search(search_pb2.SearchRequest(parent="catalogs/shop", turns=turns), 130, 2)


def _many_texts() -> list[list[Call]]:
    calls = []
    for number in range(600):
        turns = [search_pb2.Turn(text=f"{number} {turn} " + "word " * 180) for turn in range(16)]
        request = search_pb2.SearchRequest(parent="catalogs/shop", turns=turns)
        calls.append(Call(SEARCH, request.SerializeToString()))
    return [calls[start::4] for start in range(4)]


def _unknown_methods() -> list[list[Call]]:
    return [
        [Call(f"/cir.search.v1.SearchService/M{n}x{c}" + "y" * 400) for n in range(4000)] for c in range(4)
    ]


def _bad_keys() -> list[list[Call]]:
    calls = [Call(SEARCH, metadata=((HEADER, f"key-{n:06d}-" + "k" * 200),)) for n in range(20_000)]
    return [calls[start::4] for start in range(4)]


def _large_payloads() -> list[list[Call]]:
    value, image = payload_pb2.Value(string_value="x" * 60_000), small_jpeg()
    calls = []
    for number in range(15):
        items = [
            catalog_pb2.ItemWrite(
                item=catalog_pb2.Item(
                    id=f"attack-{number}-{n}", payload=payload_pb2.Payload(fields={"caption": value})
                ),
                content=image,
            )
            for n in range(10)
        ]
        request = catalog_pb2.BatchUpsertItemsRequest(parent="catalogs/shop", items=items)
        calls.append(Call(CATALOG + "BatchUpsertItems", request.SerializeToString()))
    return [calls]


def _long_lists() -> list[list[Call]]:
    request = catalog_pb2.ListItemsRequest(parent="catalogs/shop", page_size=100_000)
    return [[Call(CATALOG + "ListItems", request.SerializeToString())] * 1500] * 4


def _same_ids() -> list[list[Call]]:
    ids = [f"item-{n % 30}" for n in range(9000)]
    request = catalog_pb2.BatchGetItemsRequest(parent="catalogs/shop", item_ids=ids, with_features=True)
    return [[Call(CATALOG + "BatchGetItems", request.SerializeToString())] * 30]


def _texts_to_embed() -> list[list[Call]]:
    texts = [("&amp;" * 300)[: 900 + n] for n in range(64)]
    request = embedder_pb2.EmbedTextsRequest(texts=texts)
    return [[Call(EMBEDDER + "EmbedTexts", request.SerializeToString())] * 70] * 2


def _pairs(count: int, dimension: int, value: float, combiner: str = "slerp") -> list[Call]:
    """A call that combines pairs of features, as many as it takes."""
    encoding = vectors_pb2.VectorEncoding(dtype=vectors_pb2.VECTOR_TYPE_FLOAT16)
    rows = np.random.default_rng(1).normal(size=(count, dimension)).astype(np.float32) * value
    features = pack(rows, encoding=encoding)
    request = combiner_pb2.CombineRequest(combiner=combiner, image_features=features, text_features=features)
    return [Call(COMBINE, request.SerializeToString())]


CALLS: tuple[Attack, ...] = (
    Attack("260 searches of 16 strange texts", "search", _strange_texts, keyed=True),
    Attack("600 searches of 16 new texts", "search", _many_texts, keyed=True),
    Attack("16,000 methods that there are not", "search", _unknown_methods),
    Attack("20,000 wrong keys", "search", _bad_keys),
    Attack("150 payloads of 60 kB", "search", _large_payloads, keyed=True),
    Attack("6,000 lists of 100,000 items", "search", _long_lists, keyed=True),
    Attack("270,000 ids of 30 items", "search", _same_ids, keyed=True),
    Attack("9,000 texts to repair", "embedder", _texts_to_embed, keyed=True),
    Attack("18 times 1,024 pairs", "combiner", lambda: [_pairs(1024, 128, 1.0) * 3] * 6, keyed=True),
    Attack("560 pairs of 4,096 values", "combiner", lambda: [_pairs(560, 4096, 1.0)], keyed=True),
    Attack("18 times 1,024 tiny pairs", "combiner", lambda: [_pairs(1024, 128, 6e-8) * 3] * 6, keyed=True),
    Attack("12,000 calls of one pair", "combiner", lambda: [_pairs(1, 128, 1.0) * 3000] * 4, keyed=True),
    Attack(
        "12,000 pairs for a combiner that there is not",
        "combiner",
        lambda: [_pairs(1, 128, 1.0, "combiner/none") * 3000] * 4,
        keyed=True,
    ),
)
"""Calls that are sent as `_attack_calls.run` does."""

RAW: dict[str, Bytes] = {
    "550,000 pings": _pings,
    "600,000 settings": _settings,
    "headers without an end": _endless_headers,
    "headers named again 7 million times": _referenced_headers,
    "6,000 answers that nobody reads": _unread_answers,
}
"""Bytes of connections to the search service, made with the attacker's key."""


def _frames(form: str, count: int, side: int) -> bytes:
    out = io.BytesIO()
    frames = [Image.new("RGB", (side, side), (n % 256, n // 256, 9)) for n in range(count)]
    frames[0].save(out, form, save_all=True, append_images=frames[1:])
    return out.getvalue()


def _apng(frames: int, side: int = 4000) -> bytes:
    """An animated PNG whose frames all have the whole screen."""
    data = zlib.compress(bytes(side * (1 + 3 * side)), 9)
    animated = chunk(b"acTL", struct.pack(">II", frames, 0))
    control = b"".join(
        chunk(b"fcTL", struct.pack(">IIIIIHHBB", n, side, side, 0, 0, 1, 1, 0, 1)) for n in range(frames)
    )
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + animated + control + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _tiff_of_directories(count: int) -> bytes:
    """A TIFF of directories that follow one another and end where they began."""
    size = 2 + 12 + 4
    out = b"II*\0" + struct.pack("<I", 8)
    for number in range(count):
        following = 8 + size * ((number + 1) % count)
        out += struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 5) + struct.pack("<I", following)
    return out


def _tiff_of_tiles() -> bytes:
    """A TIFF of 8,000 x 8,000 pixels in tiles of 16 x 16 that are all the same bytes."""
    side, tile = 8000, 16
    count = (side // tile) ** 2
    packed = zlib.compress(bytes(tile * tile * 3), 9)
    entries = 11
    places = 8 + 2 + 12 * entries + 4
    lengths, data = places + 4 * count, places + 8 * count
    values = (
        (256, side),
        (257, side),
        (258, 8),
        (259, 8),
        (262, 2),
        (277, 3),
        (284, 1),
        (322, tile),
        (323, tile),
    )
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values)
    fields += struct.pack("<HHII", 324, 4, count, places) + struct.pack("<HHII", 325, 4, count, lengths)
    lists = struct.pack("<I", data) * count + struct.pack("<I", len(packed)) * count
    return b"II*\0" + struct.pack("<IH", 8, entries) + fields + bytes(4) + lists + packed


def _webp_of_frames() -> bytes:
    return _frames("WEBP", 800, 600)


def _jpeg_of_restarts() -> bytes:
    out = io.BytesIO()
    Image.new("L", (8000, 8000)).save(out, "JPEG", restart_marker_blocks=1, quality=5)
    return out.getvalue()


def _jpeg_of_profile() -> bytes:
    """A JPEG whose colour profile is in 255 pieces, over and over."""
    piece = b"ICC_PROFILE\0%c\xff" + bytes(1000)
    pieces = [piece.replace(b"%c", bytes([1 + n % 255])) for n in range(9000)]
    return small_jpeg(*(struct.pack(">BBH", 0xFF, 0xE2, len(p) + 2) + p for p in pieces))


def _png_of_compressed_zeros() -> bytes:
    """A PNG of a few pixels followed by gigabytes of zeros in its data."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 << 20)) for _ in range(2000)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


IMAGES: dict[str, Callable[[], bytes]] = {
    "GIF of 20,000 frames": lambda: _frames("GIF", 20_000, 4),
    "APNG of 200,000 frames": lambda: _apng(200_000),
    "WebP of 800 frames": _webp_of_frames,
    "TIFF of 400,000 directories": lambda: _tiff_of_directories(400_000),
    "TIFF of 250,000 tiles": _tiff_of_tiles,
    "JPEG of a million restarts": _jpeg_of_restarts,
    "JPEG of 9,000 profile pieces": _jpeg_of_profile,
    "PNG with 2 GB behind its pixels": _png_of_compressed_zeros,
    "PNG of 16 bits, interlaced, 1 x 32,000,000": lambda: png(
        1, 32_000_000, bits=16, colour=0, interlaced=True
    ),
}
"""Files of at most 10 MB, sent to the embedder."""
