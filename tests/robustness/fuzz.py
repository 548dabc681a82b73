"""The run of a fuzz: attacks on one service, and what must hold throughout.

No UNKNOWN, no INTERNAL, no call without an answer, the process alive and SERVING, memory bounded, and a known
good request answered as before.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import grpc.aio

from benchmarks._processes import NAMES, Running
from cir.channel import is_serving
from cir.embedder.v1 import embedder_pb2
from tests.robustness import hostile_images, raw_http2
from tests.robustness.requests import EMBEDDER, STREAMS, Answer, Method, methods, read_answer, stream_batches
from tests.robustness.wire import mutate

TIMEOUT = 60.0
# How many at a time, and requests between two looks at the service's state.
WORKERS = 12
CHECK_EVERY = 1000
# What stays from the second quarter of the run to the last: a leak grows with the requests.
MAX_GROWTH_BYTES = 200 << 20
# What may be held for a moment: the largest pictures that are decoded, 16 bytes a pixel (docs/embedder.md),
# on each thread that prepares.
_PICTURES_BYTES = 16 * 64_000_000 * (os.cpu_count() or 1)
MAX_PEAK_BYTES = {"embedder": _PICTURES_BYTES + (200 << 20)}

# Codes that no message may bring about, whatever it says: DEADLINE_EXCEEDED is a hang, UNAVAILABLE a crash.
_FORBIDDEN = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.CANCELLED,
    }
)
# The handler's own failure. INTERNAL from gRPC's core, for framing that it cannot read, says otherwise.
_OURS = (b"internal error", b"Unexpected")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not happen, and the bytes that brought it about."""

    service: str
    attack: str
    method: str
    said: str
    content: bytes = b""

    def as_json(self) -> str:
        """One line for the reproduction file."""
        return json.dumps(
            {
                "service": self.service,
                "attack": self.attack,
                "method": self.method,
                "said": self.said,
                "content": self.content.hex(),
            }
        )


@dataclass(slots=True)
class Tally:
    """What a run saw: answers by attack and code, memory in bytes at each look, findings."""

    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    resident: list[int] = field(default_factory=list)
    peak: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """Requests and connections sent."""
        return self.answers.total()

    @property
    def growth(self) -> int:
        """Bytes held in the last quarter of the looks over those in the second, by their medians.

        Of a run too short for quarters: at its end over its beginning.
        """
        quarter = len(self.resident) // 4
        if not quarter:
            return max(0, self.resident[-1] - self.resident[0])
        warm, last = self.resident[quarter : 2 * quarter], self.resident[-quarter:]
        return max(0, round(median(last) - median(warm)))

    @property
    def burst(self) -> int:
        """The most bytes that were held at any moment over those at the first look."""
        return self.peak - self.resident[0]


class Fuzzer:
    """Attacks one service process."""

    def __init__(self, service: str, process: Running, good: Sequence[tuple[str, bytes]], seed: int) -> None:
        """`good` are requests (method, bytes) whose answers must stay what they are at the start."""
        self.tally = Tally()
        self._service = service
        self._process = process
        self._good = good
        self._source = random.Random(f"{service} {seed}")
        self._images = hostile_images.files()
        self._methods: list[Method] = methods(service, self._images)
        self._sound = [content for method in self._methods for content in method.sound]
        self._batches = stream_batches(service, self._images)

    async def run(self, requests: int) -> Tally:
        """Send so many requests and return what was seen. Ends early after 20 findings."""
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(self._process.address, options=options) as channel:
            right = [await self._answer(channel, *good) for good in self._good]
            await self._look(channel, right)
            left = requests
            while left > 0 and len(self.tally.findings) < 20:
                share = min(CHECK_EVERY, left)
                pieces = [share // WORKERS + (number < share % WORKERS) for number in range(WORKERS)]
                await asyncio.gather(*(self._work(channel, piece) for piece in pieces))
                await self._look(channel, right)
                left -= share
        if self.tally.growth > MAX_GROWTH_BYTES:
            self._find("memory", "", f"grew by {self.tally.growth >> 20} MiB after the warm-up")
        if self.tally.burst > MAX_PEAK_BYTES.get(self._service, MAX_GROWTH_BYTES):
            self._find(
                "memory", "", f"{self.tally.burst >> 20} MiB more than at first were held for a moment"
            )
        # What no client may have seen: calls that the service itself ended as INTERNAL are in its log.
        for line in self._process.log.read_text(errors="replace").splitlines():
            if '"event": "call failed"' in line:
                self._find("log", "", line)
        return self.tally

    async def _work(self, channel: grpc.aio.Channel, requests: int) -> None:
        for _ in range(requests):
            draw = self._source.random()
            if draw < 0.05:
                await self._attack_connection()
            elif draw < 0.10 and self._batches:
                await self._attack_stream(channel)
            else:
                await self._attack_call(channel)

    async def _attack_call(self, channel: grpc.aio.Channel) -> None:
        source = self._source
        # A random draw of methods would spend most on those that do the least.
        method = self._methods[min(int(source.expovariate(0.4)), len(self._methods) - 1)]
        draw = source.random()
        if draw < 0.35 and method.path == EMBEDDER + "EmbedImages":
            attack, content = "hostile images", self._hostile_images()
        elif draw < 0.75:
            attack, content = "mutated bytes", mutate(source.choice(method.sound), source, self._sound)
        else:
            attack, content = "extreme fields", method.extreme(source)
        metadata = (("x-request-id", source.choice(("", "a", "x" * 500, " ~"))),)
        send: Any = channel.unary_unary(method.path)
        packed = source.random() < 0.05
        compression = source.choice((grpc.Compression.Gzip, grpc.Compression.Deflate)) if packed else None
        call = send(content, timeout=TIMEOUT, metadata=metadata, compression=compression)
        code, said = await call.code(), await call.details()
        if code is grpc.StatusCode.UNIMPLEMENTED:
            attack = "compressed bytes"
        if code is grpc.StatusCode.UNIMPLEMENTED and not packed:
            self._find(attack, method.path, f"{code.name}: {said}", content)
        self._count(attack, code.name)
        if code in _FORBIDDEN or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and "try again" not in said):
            self._find(attack, method.path, f"{code.name}: {said}", content)
        elif code is grpc.StatusCode.OK and attack == "hostile images":
            answer = embedder_pb2.EmbedImagesResponse.FromString(await call)
            for error in answer.errors:
                if error.code != grpc.StatusCode.INVALID_ARGUMENT.value[0]:
                    self._find(attack, method.path, f"item {error.index}: {error.message}", content)

    def _hostile_images(self) -> bytes:
        count = self._source.choice((1, 1, 3))
        images = [hostile_images.damage(self._images, self._source) for _ in range(count)]
        request = embedder_pb2.EmbedImagesRequest(
            images=[embedder_pb2.ImageInput(content=image) for image in images]
        )
        return request.SerializeToString()

    async def _attack_stream(self, channel: grpc.aio.Channel) -> None:
        """Sound, damaged and doubled batches; the stream is finished, left early or cancelled."""
        source = self._source
        batches = [source.choice(self._batches) for _ in range(source.choice((1, 3, 8)))]
        damaged = source.random() < 0.5
        if damaged:
            place = source.randrange(len(batches))
            batches[place] = mutate(batches[place], source, self._batches)
        stop_after = source.choice((None, None, 0, 1, 2))
        silence = source.random() < 0.2

        async def send() -> AsyncIterator[bytes]:
            for batch in batches:
                yield batch
            if silence and stop_after is not None:
                await asyncio.sleep(0.2)

        stream: Any = channel.stream_stream(STREAMS[self._service])
        call = stream(send(), timeout=TIMEOUT)
        answers = 0
        try:
            if stop_after == 0:
                call.cancel()
            async for _ in call:
                answers += 1
                if stop_after is not None and answers >= stop_after:
                    call.cancel()
                    break
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            pass
        code, said = await call.code(), await call.details()
        self._count("streams", code.name)
        # What grpc.aio's client calls a batch that its own core did not carry out, because the call was
        # cancelled here or had ended there while it was still writing. A server that says INTERNAL logs it.
        cancelled = said == "Internal error from Core" or (
            stop_after is not None and code is grpc.StatusCode.CANCELLED
        )
        if code in _FORBIDDEN and not cancelled:
            self._find("streams", STREAMS[self._service], f"{code.name}: {said}", b"".join(batches))
        each = self._service == "embedder"  # an import answers for what is done, however it came
        if each and code is grpc.StatusCode.OK and stop_after is None and answers != len(batches):
            self._find(
                "streams",
                STREAMS[self._service],
                f"{answers} answers to {len(batches)} batches",
                b"".join(batches),
            )

    async def _attack_connection(self) -> None:
        source = self._source
        attack = source.choice(raw_http2.ATTACKS)
        method = source.choice(self._methods)
        content = attack(method.path, source.choice(method.sound), source)
        name = attack.__name__.lstrip("_").replace("_", " ")
        try:
            answer = await raw_http2.send(self._process.address, content, patience=0.1)
        except OSError as error:
            self._find(name, method.path, f"no connection: {error}", content)
            return
        status = raw_http2.status_of(answer)
        self._count("connections", "closed" if status is None else _name(status))
        if status in (2, 13) and any(words in answer for words in _OURS):
            self._find(name, method.path, f"grpc-status {status}: {answer[-200:]!r}", content)

    async def _look(self, channel: grpc.aio.Channel, right: Sequence[Answer]) -> None:
        """The service's state between attacks."""
        if self._process.process.poll() is not None:
            self._find("state", "", f"the process ended with {self._process.process.returncode}")
            return
        self.tally.resident.append(self._process.resident_bytes())
        self.tally.peak = self._process.peak_bytes()
        serving = await asyncio.to_thread(
            is_serving, self._process.address, NAMES[f"{self._service}_service"]
        )
        if not serving:
            self._find("state", "", "health is not SERVING")
        for good, expected in zip(self._good, right, strict=True):
            try:
                answer = await self._answer(channel, *good)
            except grpc.aio.AioRpcError as error:
                self._find("state", good[0], f"a good request fails: {error.code().name}: {error.details()}")
            else:
                if not answer.is_close_to(expected):
                    self._find("state", good[0], f"a good request has another answer: {answer}")

    async def _answer(self, channel: grpc.aio.Channel, method: str, content: bytes) -> Answer:
        send: Any = channel.unary_unary(method)
        return read_answer(method, await send(content, timeout=TIMEOUT))

    def _count(self, attack: str, code: str) -> None:
        self.tally.answers[attack, code] += 1

    def _find(self, attack: str, method: str, said: str, content: bytes = b"") -> None:
        self.tally.findings.append(Finding(self._service, attack, method, said, content))


def _name(status: int) -> str:
    for code in grpc.StatusCode:
        if code.value[0] == status:
            return code.name
    return str(status)


def write_findings(findings: Sequence[Finding], path: Path) -> None:
    """The reproduction file: one finding a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{finding.as_json()}\n" for finding in findings))
