"""What an attack costs: memory of the attacked process and its children, and the time a neighbour waits."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from multiprocessing.connection import Connection
from pathlib import Path

import grpc
import numpy as np
from PIL import Image

from cir.channel import HEADER
from cir.combiner.v1 import combiner_pb2
from cir.combiner.v1.combiner_pb2_grpc import CombinerServiceStub
from cir.embedder.v1 import embedder_pb2
from cir.embedder.v1.embedder_pb2_grpc import EmbedderServiceStub
from cir.search.v1 import search_pb2
from cir.search.v1.search_pb2_grpc import SearchServiceStub
from cir.vectors import pack

DIMENSION = 128
_PATIENCE_S = 60.0


class Memory(threading.Thread):
    """Watches a process and its children; Linux only.

    The peak of the process itself is the kernel's own; its children are looked at 25 times a second, and only
    what is theirs alone counts, since they share the code of libraries.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._done = threading.Event()
        with suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak starts anew
        self._own = _kib(pid, "VmRSS")
        self._theirs = self._children()
        self._most = self._theirs
        self._peak = self._own

    def run(self) -> None:
        """Look until told to stop."""
        while not self._done.wait(0.04):
            self._most = max(self._most, self._children())
            self._peak = max(self._peak, _kib(self._pid, "VmHWM"))

    def rise(self) -> int:
        """Return the MiB by which the memory rose at most."""
        return max(0, self._peak - self._own + self._most - self._theirs) >> 10

    def kept(self) -> int:
        """Return the MiB by which it is above the beginning now."""
        return max(0, _kib(self._pid, "VmRSS") - self._own + self._children() - self._theirs) >> 10

    def stop(self) -> None:
        """Stop looking."""
        self._done.set()
        self.join()

    def _children(self) -> int:
        return sum(_kib(pid, "RssAnon") + _kib(pid, "RssShmem") for pid in _descendants(self._pid))


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                yield int(child)
                yield from _descendants(int(child))


def _kib(pid: int, name: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return 0


def _scheduled(pid: int) -> tuple[float, float, float]:
    """Seconds that a process has computed, that its main thread has, and that this one waited for a core.

    The main thread has the event loop.
    """
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ran, waited = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[:2]
        ticks = int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK"), int(ran) / 1e9, int(waited) / 1e9
    return 0.0, 0.0, 0.0


@dataclass(frozen=True, slots=True, order=True)
class Wait:
    """Seconds until a neighbour had its answer.

    `cpu_s` are those that the service computed meanwhile in all its threads, `loop_s` those of its event
    loop, and for `no_core_s` the loop could have run and had no core.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0
    loop_s: float = 0.0
    no_core_s: float = 0.0


@dataclass(slots=True)
class Waits:
    """What a neighbour waited, and how many of its calls failed: it asks again, and the wait goes on."""

    answered: list[Wait] = field(default_factory=list)
    failed: int = 0

    @property
    def longest(self) -> Wait:
        """The longest one."""
        return max(self.answered, default=Wait())

    @property
    def median(self) -> float:
        """The middle one, in seconds."""
        return statistics.median(wait.seconds for wait in self.answered) if self.answered else 0.0


class Neighbour:
    """Another caller, in a process of its own, that asks one service after another something every 50 ms."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_answer, args=(other,), daemon=True)
        self._process.start()

    def start(self, service: str, address: str, key: str, pid: int) -> None:
        """Begin with a service, whose process is `pid`."""
        self._pipe.send((service, address, key, pid))
        self._pipe.recv()

    def take(self) -> Waits:
        """Return the waits since the last time, and begin anew."""
        return self._result("take")

    def stop(self) -> Waits:
        """Wait for the last answer; return what `take` would."""
        return self._result("stop")

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()

    def _result(self, command: str) -> Waits:
        self._pipe.send(command)
        waits: Waits = self._pipe.recv()
        return waits


def _answer(pipe: Connection) -> None:
    asking: _Asking | None = None
    while True:
        command = pipe.recv()
        if command == "take" and asking is not None:
            pipe.send(asking.take())
        elif command == "stop" and asking is not None:
            pipe.send(asking.stop())
        else:
            asking = _Asking(*command)
            asking.start()
            pipe.send(None)


class _Asking(threading.Thread):
    def __init__(self, service: str, address: str, key: str, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._done = threading.Event()
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self._ask = _QUESTIONS[service](self._channel, address, key)
        self._lock = threading.Lock()
        self._waits = Waits()

    def run(self) -> None:
        while not self._done.wait(0.05):
            self._wait()

    def _wait(self) -> None:
        asked, before = time.monotonic(), _scheduled(self._pid)
        answered = False
        while not answered:
            answered = self._try()
            with self._lock:
                self._waits.failed += not answered
            if self._done.wait(0 if answered else 0.02):
                break
        after = _scheduled(self._pid)
        spent = (more - less for more, less in zip(after, before, strict=True))
        wait = Wait(time.monotonic() - asked, *spent)
        with self._lock:
            self._waits.answered.append(wait)

    def _try(self) -> bool:
        try:
            self._ask()
        except (grpc.RpcError, OSError, HTTPException):
            return False
        return True

    def take(self) -> Waits:
        with self._lock:
            taken, self._waits = self._waits, Waits()
        return taken

    def stop(self) -> Waits:
        self._done.set()
        self.join()
        self._channel.close()
        return self.take()


def _search(channel: grpc.Channel, _: str, key: str) -> Callable[[], object]:
    stub, asked = SearchServiceStub(channel), 0

    def ask() -> object:
        nonlocal asked
        asked += 1
        turns = [search_pb2.Turn(text=f"red shirt {asked}")]
        request = search_pb2.SearchRequest(parent="catalogs/shop", turns=turns)
        return stub.Search(request, timeout=_PATIENCE_S, metadata=((HEADER, key),))

    return ask


def _embed(channel: grpc.Channel, _: str, key: str) -> Callable[[], object]:
    stub, asked = EmbedderServiceStub(channel), 0

    def ask() -> object:
        nonlocal asked
        asked += 1
        content = io.BytesIO()
        Image.new("RGB", (120, 160), (asked % 256, asked // 256 % 256, 7)).save(content, "JPEG")
        image = embedder_pb2.ImageInput(content=content.getvalue())
        request = embedder_pb2.EmbedImagesRequest(images=[image])
        return stub.EmbedImages(request, timeout=_PATIENCE_S, metadata=((HEADER, key),))

    return ask


def _combine(channel: grpc.Channel, _: str, key: str) -> Callable[[], object]:
    stub = CombinerServiceStub(channel)
    rows = pack(np.random.default_rng(1).normal(size=(1, DIMENSION)).astype(np.float32))
    request = combiner_pb2.CombineRequest(combiner="sum", image_features=rows, text_features=rows)
    return lambda: stub.Combine(request, timeout=_PATIENCE_S, metadata=((HEADER, key),))


def _over_http(
    address: str, make: Callable[[int], tuple[str, str, bytes, dict[str, str]]]
) -> Callable[[], object]:
    """Requests on a connection that is kept, from an address that is not the attacker's."""
    connection = HTTPConnection(address, timeout=_PATIENCE_S, source_address=("127.0.0.2", 0))
    asked = 0

    def ask() -> object:
        nonlocal asked
        asked += 1
        try:
            connection.request(*make(asked))
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, HTTPException):
            connection.close()
            raise
        if answer.status != 200:
            raise HTTPException(f"{answer.status}: {content[:200]!r}")
        return content

    return ask


def _ask_gateway(_: grpc.Channel, address: str, key: str) -> Callable[[], object]:
    headers = {HEADER: key, "content-type": "application/json"}

    def make(number: int) -> tuple[str, str, bytes, dict[str, str]]:
        body = json.dumps({"turns": [{"text": f"red shirt {number}"}]}).encode()
        return "POST", "/v1/catalogs/shop:search", body, headers

    return _over_http(address, make)


def _ask_page(_: grpc.Channel, address: str, key: str) -> Callable[[], object]:
    return _over_http(address, lambda number: ("GET", f"/?c=shop&x0=red+shirt+{number}", b"", {}))


_QUESTIONS: dict[str, Callable[[grpc.Channel, str, str], Callable[[], object]]] = {
    "search": _search,
    "embedder": _embed,
    "combiner": _combine,
    "gateway": _ask_gateway,
    "page": _ask_page,
}
