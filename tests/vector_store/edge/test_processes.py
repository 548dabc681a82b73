"""One embedded store in several processes: locks, publishing from elsewhere, crashes."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.vector_store.samples import batch, build, numbered, spec
from vector_store import VectorStore, open_store
from vector_store.errors import StoreLockedError, VersionConflictError, VersionNotFoundError
from vector_store.types import VersionState

pytestmark = pytest.mark.service

ROOT = Path(__file__).resolve().parents[3]

PREAMBLE = """
import asyncio, sys
from tests.vector_store.samples import batch, build, numbered, spec
from vector_store import open_store
from vector_store.errors import StoreError

async def main(store):
{body}

async def run():
    store = open_store("edge://" + sys.argv[1])
    try:
        await main(store)
    except StoreError as error:
        print(type(error).__name__, error, flush=True)
    await store.close()

asyncio.run(run())
"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[VectorStore]:
    opened = open_store(f"edge://{tmp_path}")
    yield opened
    await opened.close()


async def start(root: Path, body: str) -> asyncio.subprocess.Process:
    """Another process that runs `body`, the inside of `async def main(store)`."""
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PREAMBLE.format(body=indented),
        str(root),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def line_of(process: asyncio.subprocess.Process) -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()


async def output_of(root: Path, body: str) -> str:
    """All that another process prints until it ends."""
    process = await start(root, body)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return output.decode().strip()


READ = """
async with store.open_version("shop") as pinned:
    print(await pinned.count())
"""


async def test_a_version_open_here_is_locked_elsewhere(store: VectorStore, tmp_path: Path) -> None:
    await build(store, "shop", batch(numbered(3)))
    async with store.open_version("shop"):
        pass
    # The published version stays open between readers.
    answer = await output_of(tmp_path, READ)
    assert answer.startswith("StoreLockedError version v0001 of catalog 'shop' is open in process ")
    assert "ask that search service" in answer
    # What needs no shard works beside it.
    listing = "print([(c.catalog, c.published.points) for c in await store.list_catalogs()])"
    assert await output_of(tmp_path, listing) == "[('shop', 3)]"
    await store.close()
    assert await output_of(tmp_path, READ) == "3"


async def test_a_version_being_written_elsewhere_is_locked(store: VectorStore, tmp_path: Path) -> None:
    other = await start(
        tmp_path,
        'writer = await store.create_version("shop", spec({}))\n'
        "print(writer.info.version, flush=True)\n"
        "await asyncio.to_thread(sys.stdin.readline)\n"
        "await writer.upsert(batch(['a']))\n"
        "await writer.close()",
    )
    assert await line_of(other) == "v0001"
    with pytest.raises(StoreLockedError, match=rf"in use by process {other.pid} \(building it\)"):
        await store.resume_version("shop", "v0001")
    with pytest.raises(VersionConflictError, match=f"in use by process {other.pid}"):
        await store.delete_version("shop", "v0001")
    # Another version of the same catalog is nobody's business.
    writer = await store.create_version("shop", spec({}))
    assert writer.info.version == "v0002"
    await writer.abort()
    await other.communicate(b"\n")
    resumed = await store.resume_version("shop", "v0001")
    assert await resumed.count() == 1
    await resumed.abort()


async def test_publishing_elsewhere_is_seen_by_the_next_reader(store: VectorStore, tmp_path: Path) -> None:
    await build(store, "shop", batch(["old"]))
    async with store.open_version("shop") as pinned:
        assert (
            await output_of(tmp_path, 'print((await build(store, "shop", batch(["new"]), keep=0)).version)')
            == "v0002"
        )
        async with store.open_version("shop") as newer:
            assert newer.info.version == "v0002"
            assert list(await newer.retrieve(["old", "new"])) == ["new"]
        # The other process dropped the old version, which stays whole for the one that reads it.
        assert [info.version for info in await store.list_versions("shop")] == ["v0002"]
        assert list(await pinned.retrieve(["old", "new"])) == ["old"]
        await pinned.upsert(batch(["late"]))
        assert await pinned.count() == 2
        with pytest.raises(VersionNotFoundError):
            async with store.open_version("shop", "v0001"):
                pass
    await store.close()
    versions = tmp_path / "catalogs" / "shop" / "versions"
    assert [folder.name for folder in versions.iterdir()] == ["v0002"]


async def test_dropping_a_catalog_elsewhere(store: VectorStore, tmp_path: Path) -> None:
    await build(store, "shop", batch(["a"]))
    async with store.open_version("shop") as pinned:
        assert await output_of(tmp_path, 'await store.delete_catalog("shop")') == ""
        assert await store.list_catalogs() == []
        assert await pinned.count() == 1
    await store.close()
    # Nothing but the number that was given out last.
    assert [left.name for left in (tmp_path / "catalogs" / "shop").iterdir()] == ["given-out-v0001"]


async def test_publishing_from_two_processes_at_once(store: VectorStore, tmp_path: Path) -> None:
    body = 'for _ in range(4):\n    await build(store, "shop", batch(["a"]), keep=2)'
    outputs = await asyncio.gather(*(output_of(tmp_path, body) for _ in range(2)))
    assert outputs == ["", ""]
    infos = await store.list_versions("shop")
    states = [info.state for info in infos]
    assert states.count(VersionState.PUBLISHED) == 1
    assert VersionState.BUILDING not in states
    assert len(infos) == 3
    assert (await store.rollback("shop")).state is VersionState.PUBLISHED


async def test_acknowledged_items_survive_kill_9(store: VectorStore, tmp_path: Path) -> None:
    other = await start(
        tmp_path,
        'writer = await store.create_version("shop", spec({}))\n'
        "for number in range(10**6):\n"
        "    await writer.upsert(batch([f'a{number}', f'b{number}']))\n"
        "    print(number, flush=True)",
    )
    acknowledged = 0
    while acknowledged < 200:
        acknowledged = int(await line_of(other))
    other.send_signal(signal.SIGKILL)
    rest, _ = await other.communicate()
    acknowledged = max([acknowledged, *map(int, rest.decode().split("\n")[:-1])])

    assert [info.state for info in await store.list_versions("shop")] == [VersionState.BUILDING]
    writer = await store.resume_version("shop", "v0001")
    # One batch more may have been written than was told of.
    assert (await writer.count()) // 2 - acknowledged in (1, 2)
    finished = await writer.finish()
    await store.publish("shop", finished.version)
    async with store.open_version("shop") as pinned:
        expected = [f"{letter}{number}" for number in range(acknowledged + 1) for letter in "ab"]
        assert list(await pinned.retrieve(expected)) == expected


async def test_a_killed_owner_leaves_no_lock(store: VectorStore, tmp_path: Path) -> None:
    await build(store, "shop", batch(["a"]))
    await store.close()
    other = await start(
        tmp_path,
        'async with store.open_version("shop") as pinned:\n    await pinned.upsert(batch(["b"]))\n'
        "    print('ready', flush=True)\n    await asyncio.to_thread(sys.stdin.readline)",
    )
    assert await line_of(other) == "ready"
    other.kill()
    await other.communicate()
    again = open_store(f"edge://{tmp_path}")
    async with again.open_version("shop") as pinned:
        assert await pinned.count() == 2
    await again.close()
