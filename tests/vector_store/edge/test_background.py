"""Indexing beside the service: the same items as without, whatever is killed or fails."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from cir.fields import Payload
from service_runtime.logging import configure_logging
from tests.vector_store.edge.test_processes import line_of, start
from tests.vector_store.samples import SCHEMA, batch, build, features, numbered, spec, storage_of
from vector_store.base import CatalogVersion
from vector_store.edge import EdgeOptions, optimize
from vector_store.edge.catalogs import EdgeCatalogs
from vector_store.edge.files import EdgeLayout
from vector_store.edge.store import EdgeStore
from vector_store.edge.sums import Coverage
from vector_store.filters import Filter, MatchAny
from vector_store.types import Item, PayloadBatch

pytestmark = pytest.mark.service

# Stands for the indexing: tells its process id and waits until it may go on.
WAITING = """
import pathlib, runpy, sys, os, time
folder = pathlib.Path({folder!r})
sys.argv[0] = {real!r}
runpy.run_path({real!r})["end_with_parent"](int(sys.argv[4]))
(folder / "child.tmp").write_text(str(os.getpid()))
(folder / "child.tmp").rename(folder / "child")
while not (folder / "go").exists():
    time.sleep(0.005)
runpy.run_path({real!r}, run_name="__main__")
"""

# Small versions are indexed too; the engine then builds no graph, but all the rest happens.
OPTIONS = EdgeOptions(index_above_items=30, retry_s=0.01, max_retry_s=0.02)


@pytest.fixture
def waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Indexing that waits for the file `go` in the folder and has told its id in the file `child` there."""
    monkeypatch.setattr("vector_store.edge.background.INDEXING_THRESHOLD_KB", 0)
    folder = tmp_path / "control"
    folder.mkdir()
    script = folder / "waiting.py"
    script.write_text(WAITING.format(folder=str(folder), real=optimize.__file__))
    monkeypatch.setattr("vector_store.edge.optimize.__file__", str(script))
    return folder


@pytest.fixture
def default_logging() -> Iterator[None]:
    """Undo what the test sets up of the process's log."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for `condition`, at most 20 seconds."""
    for _ in range(4_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to pass")


def version_folder(root: Path) -> Path:
    return root / "catalogs" / "shop" / "versions" / "v0001"


def shards(root: Path) -> list[str]:
    return sorted(path.name for path in version_folder(root).glob("shard*"))


def named(root: Path) -> str:
    """The folder that counts."""
    return EdgeCatalogs(EdgeLayout(root)).shard_name("shop", "v0001")


async def everything(pinned: CatalogVersion) -> dict[str, tuple[Any, ...]]:
    """Every item, comparable to the last bit of its vector."""
    items: list[Item] = []
    cursor = ""
    while True:
        page, cursor = await pinned.scroll(limit=200, after=cursor, with_features=True)
        items += page
        if not cursor:
            break
    found = {}
    for item in items:
        assert item.features is not None
        found[item.id] = (item.payload, item.image, item.norm, item.features.tobytes())
    assert len(found) == len(items)
    return found


async def change(pinned: CatalogVersion, seed: int, steps: int) -> None:
    """Changes of every kind that depend on the seed alone."""
    generator = np.random.default_rng(seed)
    for step in range(steps):
        ids = [f"i{number:03d}" for number in generator.integers(150, size=4)]
        match generator.integers(5):
            case 0:
                await pinned.delete(ids)
            case 1:
                payloads: list[Payload] = [{"colour": "blue", "size": step}] * 4
                await pinned.set_payloads(PayloadBatch(ids, payloads))
            case 2:
                await pinned.delete_where(Filter(must=(MatchAny("size", (int(generator.integers(40)),)),)))
            case _:
                vectors = features(4, seed=int(generator.integers(1 << 30)))
                await pinned.upsert(batch(ids, vectors, [{"colour": "red", "size": step}] * 4))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_changes_during_indexing_end_with_the_same_items(
    tmp_path: Path, waiting: Path, seed: int
) -> None:
    plain = EdgeStore(tmp_path / "plain", options=EdgeOptions(index_above_items=0))
    store = EdgeStore(tmp_path / "store", options=OPTIONS)
    payloads = [{"colour": "red", "size": row} for row in range(100)]
    schema = {name: SCHEMA[name] for name in ("colour", "size")}
    for opened in (plain, store):
        await build(opened, "shop", batch(numbered(100), features(100), payloads), spec(schema))
    searching = True

    async def search(pinned: CatalogVersion) -> int:
        answers = 0
        while searching:
            found = await pinned.query(features(1)[0], limit=20)
            assert len(found) == 20
            answers += 1
        return answers

    async with plain.open_version("shop") as expected, store.open_version("shop") as pinned:
        queries = asyncio.create_task(search(pinned))
        # Already at the opening more than 30 items had no index, so a copy is being made or made.
        await until(lambda: (waiting / "child").exists())
        for target in (expected, pinned):
            await change(target, seed, 40)
        (waiting / "go").touch()
        changes = asyncio.create_task(change(pinned, seed + 100, 60))
        await until(lambda: named(tmp_path / "store") != "shard")
        await changes
        await change(expected, seed + 100, 60)
        searching = False
        assert await queries > 0
        wanted = await everything(expected)
        assert await everything(pinned) == wanted
        assert await pinned.count() == len(wanted)
        red = Filter(must=(MatchAny("colour", ("red",)),))
        assert await pinned.count(red) == await expected.count(red)
        answers = [await target.query(features(1)[0], limit=50) for target in (expected, pinned)]
        assert [s.item.id for s in answers[0]] == [s.item.id for s in answers[1]]
    await store.close()
    await plain.close()
    assert shards(tmp_path / "store") == [named(tmp_path / "store")]
    async with EdgeStore(tmp_path / "store") as again, again.open_version("shop") as pinned:
        assert await everything(pinned) == wanted


async def test_a_graph_is_built_while_queries_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("edge.config", "edge.background"):
        monkeypatch.setattr(f"vector_store.{module}.INDEXING_THRESHOLD_KB", 200)
    dimension, count = 64, 1_500
    vectors = features(count, dimension=dimension)
    options = EdgeOptions(index_above_items=count - 100)
    store = EdgeStore(tmp_path, options=options, quantize_above_bytes=4 * dimension * 100)
    chosen = spec({}, dimension=dimension, hnsw_m=8, hnsw_ef_construct=32, vectors_on_disk=True)
    await build(store, "shop", batch(["first"], vectors[:1]), chosen)
    async with store.open_version("shop") as pinned:
        for begin in range(0, count, 500):
            rows = range(begin, begin + 500)
            await pinned.upsert(batch([f"i{row}" for row in rows], vectors[begin : begin + 500]))
        assert await pinned.unindexed() > 0
        await until(lambda: named(tmp_path) != "shard")
        assert (await pinned.query(vectors[7], limit=1))[0].score == pytest.approx(1.0, abs=1e-5)
        await until(lambda: shards(tmp_path) == [named(tmp_path)])
        assert await pinned.unindexed() < 100
        assert await pinned.count() == count + 1
    await store.close()
    # It has become large enough to be compressed, and its full vectors stay on disk.
    shard = version_folder(tmp_path) / named(tmp_path)
    assert "int8" in (shard / "edge_config.json").read_text()
    assert storage_of(shard) == {"Mmap", "ChunkedMmap"}


async def test_a_killed_or_failing_attempt_is_repeated(
    tmp_path: Path, waiting: Path, default_logging: None, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("info", "json")
    root = tmp_path / "store"
    store = EdgeStore(root, options=OPTIONS)
    await build(store, "shop", batch(numbered(50), features(50)))
    async with store.open_version("shop") as pinned:
        for _ in range(3):
            await until(lambda: (waiting / "child").exists())
            child = int((waiting / "child").read_text())
            (waiting / "child").unlink()
            os.kill(child, signal.SIGKILL)
            await pinned.upsert(batch(["late"]))
        await until(lambda: (waiting / "child").exists())
        assert named(root) == "shard"
        (waiting / "go").touch()
        await until(lambda: named(root) != "shard")
        assert await pinned.count() == 51
    await store.close()
    assert shards(root) == [named(root)]
    # In the format of every service.
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ["warning"] * 3 + ["info"]
    assert all(line["version"] == "version v0001 of catalog 'shop'" for line in lines)
    assert all(line["error"].endswith("StoreUnavailableError") for line in lines[:3])
    assert [line["retry_seconds"] for line in lines[:3]] == [0.01, 0.02, 0.02]
    assert lines[3]["event"] == "items written online indexed"


async def test_a_document_that_cannot_be_written_changes_nothing(
    tmp_path: Path, waiting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (waiting / "go").touch()
    root = tmp_path / "store"
    real = EdgeCatalogs.write
    refused = 0

    def write(
        self: EdgeCatalogs, info: Any, shard: str = "shard", coverage: Coverage = Coverage.OLDER
    ) -> None:
        nonlocal refused
        if shard != "shard" and refused < 2:
            refused += 1
            raise OSError(5, "Input/output error")
        real(self, info, shard, coverage)

    monkeypatch.setattr(EdgeCatalogs, "write", write)
    store = EdgeStore(root, options=OPTIONS)
    await build(store, "shop", batch(numbered(50), features(50)))
    async with store.open_version("shop") as pinned:
        for number in range(20):
            await pinned.upsert(batch([f"n{number}"]))
        await until(lambda: named(root) != "shard")
        assert await pinned.count() == 70
    await store.close()
    assert refused == 2
    async with EdgeStore(root) as again, again.open_version("shop") as pinned:
        assert await pinned.count() == 70


async def test_closing_ends_what_is_under_way(tmp_path: Path, waiting: Path) -> None:
    root = tmp_path / "store"
    store = EdgeStore(root, options=OPTIONS)
    await build(store, "shop", batch(numbered(50), features(50)))
    async with store.open_version("shop") as pinned:
        await until(lambda: (waiting / "child").exists())
        await pinned.upsert(batch(["late"]))
    await store.close()
    assert shards(root) == ["shard"]
    child = int((waiting / "child").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    async with EdgeStore(root) as again, again.open_version("shop") as pinned:
        assert await pinned.count() == 51


OWNER = """
from pathlib import Path
from vector_store.edge import EdgeOptions, background, optimize
from vector_store.edge.store import EdgeStore
from vector_store.edge.sums import Coverage
background.INDEXING_THRESHOLD_KB = 0
{more}
own = EdgeStore(Path(sys.argv[1]), options=EdgeOptions(index_above_items=10))
async with own.open_version("shop") as pinned:
    start = await pinned.count()
    for number in range(start, 10**6):
        await pinned.upsert(batch([f"n{{number}}"]))
        print(number, flush=True)
"""


@pytest.mark.slow
async def test_kill_9_of_the_owner_loses_nothing(tmp_path: Path) -> None:
    async with EdgeStore(tmp_path) as store:
        await build(store, "shop", batch(["n0"]))
    generator = np.random.default_rng(7)
    switched = set()
    for _ in range(3):
        owner = await start(tmp_path, OWNER.format(more=""))
        acknowledged = int(await line_of(owner))
        seen = named(tmp_path)
        # Somewhere in an indexing, or after the first switch.
        await asyncio.sleep(float(generator.uniform(0.0, 1.5)))
        owner.kill()
        rest, _ = await owner.communicate()
        acknowledged = max([acknowledged, *map(int, rest.decode().split("\n")[:-1])])
        if named(tmp_path) != seen:
            switched.add(named(tmp_path))
        async with EdgeStore(tmp_path, options=EdgeOptions(index_above_items=0)) as store:
            async with store.open_version("shop") as pinned:
                wanted = [f"n{number}" for number in range(acknowledged + 1)]
                assert list(await pinned.retrieve(wanted)) == wanted
                # One more may have been written than was told of.
                assert await pinned.count() - len(wanted) in (0, 1)
            assert shards(tmp_path) == [named(tmp_path)]
    assert switched


async def test_the_indexing_ends_with_its_owner(tmp_path: Path, waiting: Path) -> None:
    root = tmp_path / "store"
    async with EdgeStore(root) as store:
        await build(store, "shop", batch(numbered(50), features(50)))
    script = optimize.__file__
    owner = await start(root, OWNER.format(more=f"optimize.__file__ = {script!r}"))
    await line_of(owner)
    await until(lambda: (waiting / "child").exists())
    child = int((waiting / "child").read_text())
    owner.kill()
    await owner.communicate()

    def gone() -> bool:
        try:
            return Path(f"/proc/{child}/stat").read_text().rsplit(") ", 1)[1].startswith("Z")
        except FileNotFoundError:
            return True

    await until(gone)
    async with EdgeStore(root) as store, store.open_version("shop") as pinned:
        assert await pinned.count() > 50
    assert shards(root) == ["shard"]
