"""What one caller can take from a service with 10 MB: memory, and the time of a neighbour.

    python -m benchmarks.attacks [--baseline CHECKOUT] [--only REGEX] [--service NAME] [--seconds 10]
        [--minutes 12] [--times 1] [--json FILE] [--list]

Each attack meets a service of its own with the shipped models and default settings: calls over the wire
(`_attack_calls.py`), requests over HTTP (`_attack_http.py`), image files (`_attack_images.py`), 1,000 damaged
images and further ones (`_attack_more.py`). One caller with one key sends 10 MB at most; another key asks
something every 50 ms meanwhile, and again where it is refused. Printed are the rise of resident memory, of
children too, at its peak and when what was freed has been given back (8 s later at the latest), how much
longer than its median in peace the neighbour waited for an answer at most, and how many of its calls failed.
Goals: 256 MiB, 1 s, none. Printed as well is how much the service computed during the longest wait, its event
loop alone, and for how long the loop could have run but had no core: on a machine that is busy with other
things the delay says little, and what was computed says what it would have been.

With the path of an older checkout every attack is carried out on its services as well, by turns.
`--times` repeats an attack and keeps the smallest figures, for machines that are busy with other things.
`--minutes` ends the run in time: attacks come in an order in which those before are the likelier to miss.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import grpc.aio
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import _attack_calls, _attack_http, _attack_images, _attack_more
from benchmarks._attack_calls import Sent
from benchmarks._attack_measures import DIMENSION, Memory, Neighbour
from benchmarks._processes import Running, running
from cir.channel import HEADER
from cir.embedder.v1 import embedder_pb2
from cir.embedder.v1.embedder_pb2_grpc import EmbedderServiceStub
from cir.fields import FieldType
from tests.robustness import hostile_images
from vector_store import open_store
from vector_store.types import PointBatch, VersionSpec

MOST_BYTES = 10_000_000
MOST_MIB, MOST_DELAY_S = 256, 1.0
_SHIPPED = {"ARCHITECTURE": "cir-small", "PRETRAINED": "shipped", "LOG_LEVEL": "error"}
_ATTACKER, _NEIGHBOUR, _SERVICE = (
    "attacker-key-0123456789",
    "neighbour-key-0123456789",
    "service-key-0123456789",
)
_KEYS = f"attacker:write:{_ATTACKER},neighbour:write:{_NEIGHBOUR},search:read:{_SERVICE}"
_ITEMS = 300
_FRONTS = {"gateway": "http_gateway", "page": "web_demo"}
SERVICES = ("embedder", "combiner", "search", *_FRONTS)
# How long memory is waited for, and how much more than before is as good as none.
_GIVEN_BACK_S, _LITTLE_MIB = 8.0, 16

Carry = Callable[[str], "Carried"]


@dataclass(frozen=True, slots=True)
class Carried:
    """What was sent, and how it was answered."""

    sent: int
    answers: dict[str, int]


@dataclass(frozen=True, slots=True)
class Case:
    """An attack on a service, however it is carried out."""

    name: str
    service: str
    carry: Carry


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one attack on one service."""

    sent: int
    peak_mib: int
    kept_mib: int
    delay_s: float
    cpu_s: float
    loop_s: float
    no_core_s: float
    quiet_s: float
    neighbour_failed: int
    survived: bool
    answers: dict[str, int]

    @property
    def held(self) -> bool:
        """Return whether the goals are reached."""
        return (
            self.survived
            and not self.neighbour_failed
            and self.peak_mib <= MOST_MIB
            and self.delay_s <= MOST_DELAY_S
        )

    def better(self, other: Figures | None) -> Figures:
        """Return the one with the smaller figures."""
        if other is None:
            return self
        return min(self, other, key=lambda f: (not f.survived, not f.held, f.delay_s + f.peak_mib / MOST_MIB))


def main() -> None:
    """Carry out the attacks, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--baseline", type=Path, metavar="CHECKOUT", help="older code to attack as well")
    parser.add_argument("--only", default="", help="attacks whose name matches this expression")
    parser.add_argument("--service", default="", choices=SERVICES)
    parser.add_argument("--seconds", type=float, default=10, help="longest time of one attack")
    parser.add_argument("--minutes", type=float, default=60, help="time after which no further attack begins")
    parser.add_argument("--times", type=int, default=1, help="repetitions, of which the best counts")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--list", action="store_true", help="print the attacks that are chosen, and end")
    options = parser.parse_args()
    chosen = [
        case
        for case in cases(options.seconds)
        if re.search(options.only, case.name) and options.service in ("", case.service)
    ]
    if options.list:
        print("\n".join(f"{case.service} {case.name}" for case in chosen))
        return
    ends = time.monotonic() + 60 * options.minutes
    checkouts = {"now": None} | ({"baseline": options.baseline.resolve()} if options.baseline else {})
    figures: dict[str, dict[str, Figures]] = {}
    with tempfile.TemporaryDirectory() as name:
        sides = {side: Side(Path(name) / side, checkout) for side, checkout in checkouts.items()}
        with ExitStack() as stack:
            neighbour = Neighbour()
            stack.callback(neighbour.close)
            for side in sides.values():
                stack.enter_context(side.neighbours())
            for case in chosen:
                if time.monotonic() > ends:
                    break
                figures[case.name] = {}
                for label, side in sides.items():
                    best: Figures | None = None
                    for _ in range(options.times):
                        best = side.attack(case, neighbour).better(best)
                        if best.held:
                            break
                    assert best is not None
                    figures[case.name][label] = best
                    print(f"{case.service} {case.name} [{label}]: {one_line(best)}", flush=True)
                if options.json:
                    found = {n: {s: asdict(f) for s, f in by.items()} for n, by in figures.items()}
                    options.json.write_text(json.dumps(found, indent=2) + "\n")
    show(figures)
    if left_out := [case.name for case in chosen if case.name not in figures]:
        print(f"{len(left_out)} left out for want of time: {'; '.join(left_out)}")


class Side:
    """The services of one checkout (None: this one), in a folder."""

    def __init__(self, folder: Path, checkout: Path | None) -> None:
        self._folder = folder
        self._checkout = checkout
        self._embedder = self._combiner = ""
        folder.mkdir(parents=True)

    @contextmanager
    def neighbours(self) -> Iterator[None]:
        """Run what an attacked search service needs."""
        with self._running("embedder") as embedder, self._running("combiner") as combiner:
            self._embedder, self._combiner = embedder.address, combiner.address
            fill(self._folder / "store", fingerprint_of_with_key(embedder.address))
            yield

    def attack(self, case: Case, neighbour: Neighbour) -> Figures:
        """Start the service, attack it, stop it."""
        with self._attacked(case.service) as attacked:
            service = attacked[0]
            neighbour.start(case.service, service.address, _NEIGHBOUR, service.process.pid)
            time.sleep(1)
            neighbour.take()  # the first calls fill caches
            time.sleep(1)
            quiet = neighbour.take()
            memory = [Memory(running.process.pid) for running in attacked]
            for one in memory:
                one.start()
            carried = case.carry(service.address)
            time.sleep(1)
            waits = neighbour.stop()
            kept = _kept(memory)
            survived = all(running.process.poll() is None for running in attacked)
            for one in memory:
                one.stop()
        longest = waits.longest
        return Figures(
            sent=carried.sent,
            peak_mib=sum(one.rise() for one in memory),
            kept_mib=kept,
            delay_s=max(0.0, longest.seconds - quiet.median),
            cpu_s=longest.cpu_s,
            loop_s=longest.loop_s,
            no_core_s=longest.no_core_s,
            quiet_s=quiet.longest.seconds,
            neighbour_failed=waits.failed,
            survived=survived,
            answers=carried.answers,
        )

    @contextmanager
    def _attacked(self, name: str) -> Iterator[list[Running]]:
        """Run a service; of those that speak HTTP the search service behind them comes second."""
        if name not in _FRONTS:
            with self._running(name) as service:
                yield [service]
            return
        with self._running("search") as search:
            settings = {"SEARCH": search.address, "LOG_LEVEL": "error"}
            if name == "gateway":
                settings |= {"EMBEDDER": self._embedder}
            if name == "page":
                settings |= {"SEARCH_API_KEY": _NEIGHBOUR, "DATA": str(self._folder / "page")}
            log = self._folder / f"{name}.log"
            with running(_FRONTS[name], settings, log=log, checkout=self._checkout) as front:
                yield [front, search]

    @contextmanager
    def _running(self, name: str) -> Iterator[Running]:
        settings = {"API_KEYS": _KEYS, "LOG_LEVEL": "error"}
        if name == "embedder":
            settings |= _SHIPPED
        if name == "search":
            store = self._folder / "attacked"
            shutil.rmtree(store, ignore_errors=True)
            shutil.copytree(self._folder / "store", store)
            settings |= {
                "EMBEDDER": self._embedder,
                "COMBINER": self._combiner,
                "STORE": f"edge://{store}",
                "UPSTREAM_API_KEY": _SERVICE,
            }
        log = self._folder / f"{name}.log"
        with running(f"{name}_service", settings, log=log, checkout=self._checkout) as started:
            yield started


def _kept(memory: Sequence[Memory]) -> int:
    """MiB that are kept once what was freed has been given back, or some seconds have passed."""
    ends = time.monotonic() + _GIVEN_BACK_S
    while (kept := sum(one.kept() for one in memory)) > _LITTLE_MIB and time.monotonic() < ends:
        time.sleep(0.25)
    return kept


def fingerprint_of_with_key(address: str) -> str:
    """The fingerprint of the model that an embedder holds."""
    with grpc.insecure_channel(address) as channel:
        info = EmbedderServiceStub(channel).GetEmbedderInfo(
            embedder_pb2.GetEmbedderInfoRequest(), timeout=10, metadata=((HEADER, _SERVICE),)
        )
    return str(info.model.fingerprint)


def fill(store: Path, fingerprint: str) -> None:
    """Publish a catalog `shop` with some items."""

    async def run() -> None:
        schema = {"caption": FieldType.TEXT, "colour": FieldType.KEYWORD, "price": FieldType.FLOAT}
        features = np.random.default_rng(5).normal(size=(_ITEMS, DIMENSION)).astype(np.float32)
        payloads = [
            {"caption": f"a shirt {n}", "colour": ("red", "blue")[n % 2], "price": n / 4}
            for n in range(_ITEMS)
        ]
        async with open_store(f"edge://{store}") as opened:
            writer = await opened.create_version("shop", VersionSpec(DIMENSION, fingerprint, schema))
            ids = [f"item-{n}" for n in range(_ITEMS)]
            await writer.upsert(PointBatch(ids, features, payloads, [f"{item}.jpg" for item in ids]))
            await opened.publish("shop", (await writer.finish()).version)

    asyncio.run(run())


def cases(seconds: float) -> list[Case]:
    """Every attack; none goes on for longer than `seconds`."""
    images = [
        Case(name, "embedder", _files(partial(_copies, build), seconds))
        for name, build in (_attack_more.IMAGES | _attack_images.ATTACKS).items()
    ]
    return [
        *(_raw(name, build, seconds) for name, build in _attack_more.RAW.items()),
        *(_http(attack, seconds) for attack in _attack_http.ATTACKS),
        Case("1,000 damaged images", "embedder", _files(_damaged, seconds)),
        *(_calls(attack, seconds) for attack in _attack_more.CALLS),
        *images,
        *(_calls(attack, seconds) for attack in _attack_calls.attacks()),
    ]


def _calls(attack: _attack_calls.Attack, seconds: float) -> Case:
    def send(address: str, result: Sent) -> Coroutine[None, None, None]:
        return _attack_calls.run(address, attack, result, key=_ATTACKER)

    return _sending(attack.name, attack.service, send, seconds)


def _raw(name: str, build: _attack_more.Bytes, seconds: float) -> Case:
    def send(address: str, result: Sent) -> Coroutine[None, None, None]:
        return _attack_more.send_raw(address, build(_ATTACKER), result)

    return _sending(name, "search", send, seconds)


def _http(attack: _attack_http.HttpAttack, seconds: float) -> Case:
    def send(address: str, result: Sent) -> Coroutine[None, None, None]:
        return _attack_http.send(address, attack, _ATTACKER, result)

    return _sending(attack.name, attack.service, send, seconds)


def _sending(
    name: str, service: str, send: Callable[[str, Sent], Coroutine[None, None, None]], seconds: float
) -> Case:
    def carry(address: str) -> Carried:
        result = Sent()

        async def run() -> None:
            with suppress(TimeoutError):
                await asyncio.wait_for(send(address, result), seconds)

        asyncio.run(run())
        return Carried(result.sent, {str(code): count for code, count in result.codes.items()})

    return Case(name, service, carry)


def _copies(build: Callable[[], bytes]) -> list[bytes]:
    """As many copies as 10 MB hold, 32 at most."""
    content = build()
    return [content] * max(1, min(32, MOST_BYTES // len(content)))


def _damaged() -> list[bytes]:
    source = random.Random(1)
    sound = hostile_images.files()
    return [hostile_images.damage(sound, source) for _ in range(1000)]


def _files(build: Callable[[], Sequence[bytes]], seconds: float) -> Carry:
    """Send files to the embedder: eight calls under way, each with as many as make a megabyte."""

    def carry(address: str) -> Carried:
        files = build()
        sent = sum(map(len, files))
        if sent > MOST_BYTES:
            raise ValueError(f"{sent} bytes are more than {MOST_BYTES}")
        return asyncio.run(_send_files(address, files, seconds))

    return carry


async def _send_files(address: str, files: Sequence[bytes], seconds: float) -> Carried:
    answers: Counter[str] = Counter()
    sent = 0
    ends = time.monotonic() + seconds
    batches: list[list[bytes]] = [[]]
    for content in files:
        if batches[-1] and (len(batches[-1]) == 16 or sum(map(len, batches[-1])) + len(content) > 1 << 20):
            batches.append([])
        batches[-1].append(content)
    waiting = iter(batches)

    async with grpc.aio.insecure_channel(address) as channel:
        stub = EmbedderServiceStub(channel)

        async def work() -> None:
            nonlocal sent
            for batch in waiting:
                if time.monotonic() >= ends:
                    answers["unsent"] += len(batch)
                    continue
                images = [embedder_pb2.ImageInput(content=content) for content in batch]
                sent += sum(map(len, batch))
                try:
                    answer = await stub.EmbedImages(
                        embedder_pb2.EmbedImagesRequest(images=images),
                        timeout=max(0.1, ends - time.monotonic()),
                        metadata=((HEADER, _ATTACKER),),
                    )
                except grpc.aio.AioRpcError as error:
                    answers[error.code().name] += len(batch)
                else:
                    answers["refused"] += len(answer.errors)
                    answers["embedded"] += len(batch) - len(answer.errors)

        await asyncio.gather(*(work() for _ in range(8)))
    return Carried(sent, dict(answers))


def one_line(figures: Figures) -> str:
    """Figures for a log."""
    verdict = "held" if figures.held else "MISSED"
    died = "" if figures.survived else ", THE SERVICE ENDED"
    return (
        f"{verdict}: {figures.sent / 1e6:.1f} MB sent, {figures.peak_mib} MiB at most, {figures.kept_mib} "
        f"kept, delay {figures.delay_s:.2f} s (computed {figures.cpu_s:.2f}, in the loop "
        f"{figures.loop_s:.2f}; without a core {figures.no_core_s:.2f}; in peace {figures.quiet_s:.2f}), "
        f"{figures.neighbour_failed} of the neighbour's calls failed{died}; {figures.answers}"
    )


def show(figures: dict[str, dict[str, Figures]]) -> None:
    """Print the table, and how many attacks each side holds."""
    labels = list(next(iter(figures.values()), {}))
    table = Table(title=f"one caller, 10 MB; goals: {MOST_MIB} MiB, {MOST_DELAY_S:g} s")
    table.add_column("attack")
    for label in labels:
        for column in ("MiB", "kept", "delay s", "failed"):
            table.add_column(f"{label}: {column}", justify="right")
    for name, by_label in figures.items():
        cells: list[str] = []
        for found in by_label.values():
            delay = f"{found.delay_s:.2f}" if found.survived else "ended"
            cells += [str(found.peak_mib), str(found.kept_mib), delay, str(found.neighbour_failed)]
        table.add_row(name, *cells)
    Console(width=140).print(table)
    for label in labels:
        held = sum(by_label[label].held for by_label in figures.values())
        print(f"{label}: {held} of {len(figures)} attacks held")


if __name__ == "__main__":
    main()
