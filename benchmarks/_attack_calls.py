"""Attacks on gRPC services over the wire: what one caller can send with ten megabytes.

An `Attack` is calls on connections, as bytes; `run` sends them over HTTP/2 of its own, which keeps to the
flow control and to nothing else. Each is built when it is asked for, since some are large.
"""

from __future__ import annotations

import asyncio
import gzip
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from cir.channel import HEADER
from cir.common.v1 import payload_pb2
from cir.search.v1 import catalog_pb2, filter_pb2, search_pb2
from cir.vectors import pack
from tests.robustness import raw_http2, wire

MEGABYTE = 1_000_000
LIMIT = 10 * MEGABYTE
WATCH = "/grpc.health.v1.Health/Watch"
CHECK = "/grpc.health.v1.Health/Check"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
SEARCH = "/cir.search.v1.SearchService/Search"
CATALOG = "/cir.search.v1.CatalogService/"
EMBEDDER = "/cir.embedder.v1.EmbedderService/"
COMBINE = "/cir.combiner.v1.CombinerService/Combine"
_FRAME = 16_384
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8


@dataclass(frozen=True, slots=True)
class Call:
    """A call: its method, its message as it is on the wire, and how much of it is sent.

    `announced` is the length that the message claims, where it is not the truth; such a call does not end.
    """

    path: str
    message: bytes = b""
    gzip: bool = False
    announced: int | None = None
    reset: bool = False
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Attack:
    """Calls to send, connection by connection; `service` is "embedder", "combiner" or "search".

    With `keyed` they have an API key. `hold` are seconds that the connections stay open afterwards.
    """

    name: str
    service: str
    build: Callable[[], Sequence[Sequence[Call]]]
    keyed: bool = False
    hold: float = 2.0


@dataclass(slots=True)
class Sent:
    """What became of an attack: bytes sent, and answers by gRPC code or status of HTTP."""

    sent: int = 0
    codes: Counter[int | None] = field(default_factory=Counter)
    refused_connections: int = 0


async def run(address: str, attack: Attack, result: Sent, *, key: str = "") -> None:
    """Carry out an attack on "host:port", all its connections at the same time, and count into `result`."""
    connections = attack.build()
    metadata = ((HEADER, key),) if attack.keyed and key else ()
    await asyncio.gather(
        *(_attack_connection(address, calls, metadata, attack.hold, result) for calls in connections)
    )


async def _attack_connection(
    address: str, calls: Sequence[Call], metadata: Iterable[tuple[str, str]], hold: float, result: Sent
) -> None:
    host, _, port = address.rpartition(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        result.refused_connections += 1
        return
    connection = _Connection(reader, writer)
    try:
        await connection.open()
        for number, call in enumerate(calls):
            await connection.send(2 * number + 1, call, metadata)
        await asyncio.sleep(hold)
    except (ConnectionError, TimeoutError):
        result.refused_connections += 1
    finally:
        result.sent += connection.sent
        result.codes.update(connection.codes)
        await connection.close()


class _Connection:
    """An HTTP/2 connection as a client's, with flow control."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sent = 0
        self.codes: Counter[int | None] = Counter()
        self._reader = reader
        self._writer = writer
        self._window = 65_535
        self._first_window = 65_535
        self._windows: dict[int, int] = defaultdict(int)
        self._ended: set[int] = set()
        self._changed = asyncio.Event()
        self._gone = False
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Send the preface and wait for the server's settings."""
        self._task = asyncio.create_task(self._read())
        await self._write(raw_http2.OPENING)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), 5)

    async def send(self, stream: int, call: Call, metadata: Iterable[tuple[str, str]]) -> None:
        """Send a call as fast as the windows allow; stops when the server ends it."""
        encoding = {"grpc_encoding": "gzip"} if call.gzip else {}
        headers = [*raw_http2.request_headers(call.path, **encoding), *metadata, *call.metadata]
        self._windows[stream] = self._first_window
        await self._write(raw_http2.frame(_HEADERS, 4, stream, raw_http2.header_block(headers)))
        content = raw_http2.message(call.message, flag=int(call.gzip), length=call.announced)
        place = 0
        while place < len(content) and stream not in self._ended and not self._gone:
            size = min(_FRAME, len(content) - place, self._window, self._windows[stream])
            if size <= 0:
                self._changed.clear()
                await asyncio.wait_for(self._changed.wait(), 30)
                continue
            self._window -= size
            self._windows[stream] -= size
            await self._write(raw_http2.frame(_DATA, 0, stream, content[place : place + size]))
            place += size
        if call.reset:
            await self._write(raw_http2.frame(_RST, 0, stream, struct.pack(">I", 8)))
        elif call.announced is None and stream not in self._ended:
            await self._write(raw_http2.frame(_DATA, 1, stream))

    async def close(self) -> None:
        """Hang up."""
        if self._task is not None:
            self._task.cancel()
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _write(self, content: bytes) -> None:
        self.sent += len(content)
        self._writer.write(content)
        await self._writer.drain()

    async def _read(self) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await self._reader.readexactly(9)
                size = int.from_bytes(head[:3])
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:]) & 0x7FFFFFFF
                await self._take(kind, flags, stream, await self._reader.readexactly(size))
        self._gone = True
        self._changed.set()

    async def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        match kind:
            case 4 if not flags & 1:  # SETTINGS
                for place in range(0, len(payload), 6):
                    name, value = struct.unpack(">HI", payload[place : place + 6])
                    if name == 4:
                        for known in self._windows:
                            self._windows[known] += value - self._first_window
                        self._first_window = value
                await self._write(raw_http2.frame(_SETTINGS, 1, 0))
            case 6 if not flags & 1:  # PING
                await self._write(raw_http2.frame(_PING, 1, 0, payload))
            case 8:  # WINDOW_UPDATE
                more = int.from_bytes(payload) & 0x7FFFFFFF
                if stream:
                    self._windows[stream] += more
                else:
                    self._window += more
            case 0 if payload:  # DATA
                # What was read is given back, or answers would stop.
                update = struct.pack(">I", len(payload))
                for one in {0, stream} - self._ended:
                    await self._write(raw_http2.frame(_WINDOW, 0, one, update))
        if (kind == _HEADERS and flags & 1) or kind == _RST:
            if stream not in self._ended:
                self.codes[raw_http2.status_of(payload)] += 1
            self._ended.add(stream)
        self._changed.set()


def _times(count: int, call: Call, connections: int = 1) -> list[list[Call]]:
    return [[call] * count for _ in range(connections)]


def _bomb(path: str, count: int, number: int = 1) -> Callable[[], list[list[Call]]]:
    """`count` calls that name a thing of 60 MB of one letter, compressed to 58 kB each."""
    name = b"a" * 60 * MEGABYTE
    return lambda: _times(count, Call(path, gzip.compress(wire.field(number, name)), gzip=True))


def _field(path: str, number: int, size: int = 9 * MEGABYTE) -> Callable[[], list[list[Call]]]:
    """One call with a text of `size` in a field."""
    return lambda: _times(1, Call(path, wire.field(number, b"a" * size)))


def _empties(path: str, number: int, *, size: int, count: int = 1) -> Callable[[], list[list[Call]]]:
    """`count` calls of `size` bytes of empty fields."""
    return lambda: _times(count, Call(path, wire.field(number, b"") * (size // 2)))


def _search(**fields: object) -> bytes:
    turns = fields.pop("turns", [search_pb2.Turn(text="red")])
    request = search_pb2.SearchRequest(parent="catalogs/shop", turns=turns, **fields)  # type: ignore[arg-type]
    return request.SerializeToString()


def _text_filter(text: str) -> bytes:
    words = filter_pb2.MatchText(field="caption", text=text)
    return _search(filter=filter_pb2.Filter(must=[filter_pb2.Condition(match_text=words)]))


def _marks(characters: int) -> str:
    """Combining marks in the order that canonical ordering must turn round."""
    return "a" + "\u0301\u0316" * (characters // 2)


def _many_words() -> str:
    return " ".join(f"{number:x}" for number in range(1_300_000))


def _values(count: int) -> bytes:
    """A filter with a condition of many values, one of few bytes each."""
    value = wire.field(2, wire.field(2, b"a"))
    condition = wire.field(1, wire.field(1, b"colour") + value * count)
    return _search() + wire.field(4, wire.field(1, condition))


def _ids(count: int) -> bytes:
    condition = wire.field(4, wire.field(1, b"a") * count)
    return _search() + wire.field(4, wire.field(1, condition))


def _nested(levels: int, count: int) -> bytes:
    inner = b""
    for _ in range(levels):
        inner = wire.field(1, wire.field(7, inner))
    return _search() + wire.field(4, inner) * count


def _payload_keys(count: int) -> bytes:
    entries = b"".join(wire.field(1, wire.field(1, f"{number:x}".encode())) for number in range(count))
    item = wire.field(1, wire.field(1, b"item-1") + wire.field(2, entries))
    return wire.field(1, b"catalogs/shop") + wire.field(2, item)


def _writes(value: payload_pb2.Value, items: int, dimension: int = 32) -> bytes:
    """A call that writes items with one payload value, and features of the small model's length."""
    features = pack(np.ones((1, dimension), np.float32))
    payload = payload_pb2.Payload(fields={"caption": value})
    writes = [
        catalog_pb2.ItemWrite(item=catalog_pb2.Item(id=f"item-{n}", payload=payload, features=features))
        for n in range(items)
    ]
    return catalog_pb2.BatchUpsertItemsRequest(parent="catalogs/shop", items=writes).SerializeToString()


def _text_of(text: str) -> payload_pb2.Value:
    return payload_pb2.Value(string_value=text)


def _list_of(count: int) -> payload_pb2.Value:
    values = [payload_pb2.Value(string_value="a")] * count
    return payload_pb2.Value(list_value=payload_pb2.ListValue(values=values))


def attacks() -> list[Attack]:
    """All attacks, those without a key first."""
    half = Call(SEARCH, b"a" * 4000, announced=60 * MEGABYTE)
    quarter_metadata = tuple((f"x-{number}", "a" * 1000) for number in range(15))
    return [
        Attack("Watch of 42 names of 60 MB, compressed", "search", _bomb(WATCH, 42)),
        Attack("a gated method, 42 times 60 MB compressed", "search", _bomb(SEARCH, 42)),
        Attack("reflection of 42 symbols of 60 MB, compressed", "search", _bomb(REFLECT, 42, 4)),
        Attack("Watch of a name of 9 MB", "search", _field(WATCH, 1)),
        Attack(
            "Watch of 1,000 names of 9 kB",
            "search",
            lambda: _times(1000, Call(WATCH, wire.field(1, b"a" * 9000))),
        ),
        Attack("reflection of a symbol of 9 MB", "search", _field(REFLECT, 4)),
        Attack(
            "4,000 idle Watch streams",
            "search",
            lambda: _times(200, Call(WATCH, wire.field(1, b"a")), 20),
            hold=4.0,
        ),
        Attack("health checked 20,000 times", "search", lambda: _times(2000, Call(CHECK), 10)),
        Attack("2,000 messages half sent", "search", lambda: _times(500, half, 4), hold=4.0),
        Attack("600 silent connections", "search", lambda: [[] for _ in range(600)], hold=4.0),
        Attack("calls reset at once", "search", lambda: _times(5000, Call(SEARCH, reset=True), 4)),
        Attack("9 MB of metadata", "search", lambda: _times(150, Call(SEARCH, metadata=quarter_metadata), 4)),
        *(_keyed(*parts) for parts in _KEYED),
    ]


def _keyed(name: str, service: str, build: Callable[[], Sequence[Sequence[Call]]]) -> Attack:
    return Attack(name, service, build, keyed=True)


_KEYED: tuple[tuple[str, str, Callable[[], Sequence[Sequence[Call]]]], ...] = (
    (
        "filter text of 120 kB of combining marks",
        "search",
        lambda: _times(1, Call(SEARCH, _text_filter(_marks(60_000)))),
    ),
    (
        "filter text of 9 MB of combining marks",
        "search",
        lambda: _times(1, Call(SEARCH, _text_filter(_marks(4_500_000)))),
    ),
    ("filter text of 9 MB of words", "search", lambda: _times(1, Call(SEARCH, _text_filter(_many_words())))),
    (
        "70 filter texts of 120 kB of marks",
        "search",
        lambda: _times(70, Call(SEARCH, _text_filter(_marks(60_000)))),
    ),
    ("5 million empty turns", "search", _empties(SEARCH, 2, size=LIMIT)),
    ("5 million empty turns in 160 messages", "search", _empties(SEARCH, 2, size=62_000, count=160)),
    ("5 million empty turns in 50 messages", "search", _empties(SEARCH, 2, size=200_000, count=50)),
    ("5 million empty excluded ids", "search", _empties(SEARCH, 9, size=LIMIT)),
    ("a filter of 1.2 million values", "search", lambda: _times(1, Call(SEARCH, _values(1_200_000)))),
    ("40 filters of 25,000 values", "search", lambda: _times(40, Call(SEARCH, _values(25_000)))),
    ("a filter of 3 million ids", "search", lambda: _times(1, Call(SEARCH, _ids(3_000_000)))),
    ("filters in filters", "search", lambda: _times(1, Call(SEARCH, _nested(45, 20_000)))),
    ("a catalog's name of 9 MB", "search", _field(SEARCH, 1)),
    ("a page token of 9 MB", "search", _field(SEARCH, 6)),
    (
        "names of 9 MB in GetItem, ListItems, GetCatalog",
        "search",
        lambda: [
            [
                Call(CATALOG + name, wire.field(1, b"a" * 3 * MEGABYTE))
                for name in ("GetItem", "ListItems", "GetCatalog")
            ]
        ],
    ),
    ("5 million empty items to write", "search", _empties(CATALOG + "BatchUpsertItems", 2, size=LIMIT)),
    (
        "a payload of 900,000 keys",
        "search",
        lambda: _times(1, Call(CATALOG + "BatchUpsertItems", _payload_keys(900_000))),
    ),
    (
        "200 payload texts of combining marks",
        "search",
        lambda: _times(
            1,
            Call(CATALOG + "BatchUpsertItems", _writes(payload_pb2.Value(string_value=_marks(20_000)), 200)),
        ),
    ),
    (
        "40 writes of 31,000 values",
        "search",
        lambda: _times(40, Call(CATALOG + "BatchUpsertItems", _writes(_list_of(31_000), 1))),
    ),
    (
        "3 million ids to get",
        "search",
        lambda: _times(
            1,
            Call(
                CATALOG + "BatchGetItems", wire.field(1, b"catalogs/shop") + wire.field(2, b"a") * 3_000_000
            ),
        ),
    ),
    (
        "3 million paths in a mask",
        "search",
        lambda: _times(1, Call(CATALOG + "BatchUpdateItems", wire.field(3, wire.field(1, b"a") * 3_000_000))),
    ),
    ("unknown fields, 4.5 million", "search", lambda: _times(1, Call(SEARCH, b"\xf8\x07\x00" * 3_000_000))),
    ("5 million empty texts", "embedder", _empties(EMBEDDER + "EmbedTexts", 1, size=LIMIT)),
    ("5 million empty images", "embedder", _empties(EMBEDDER + "EmbedImages", 1, size=LIMIT)),
    ("a text of 9 MB", "embedder", _field(EMBEDDER + "EmbedTexts", 1)),
    (
        "400 streams that say nothing",
        "embedder",
        lambda: _times(400, Call(EMBEDDER + "EmbedStream", announced=5)),
    ),
    (
        "5 million empty rows",
        "combiner",
        lambda: _times(1, Call(COMBINE, wire.field(2, wire.field(5, b"") * 4_900_000))),
    ),
    (
        "a fingerprint of 9 MB",
        "combiner",
        lambda: _times(1, Call(COMBINE, wire.field(2, wire.field(4, b"a" * 9 * MEGABYTE)))),
    ),
    ("a combiner's name of 9 MB", "combiner", _field(COMBINE, 1)),
)
