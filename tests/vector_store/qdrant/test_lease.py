"""One writer of a version on a server: refused, taken over, lost, given back."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from qdrant_client import AsyncQdrantClient

from tests.vector_store.samples import batch, spec
from vector_store.errors import StoreLockedError, VersionConflictError
from vector_store.qdrant import QdrantOptions
from vector_store.qdrant.lease import KEY
from vector_store.qdrant.store import QdrantStore

COLLECTION = "cir.shop.v0001"


@pytest.fixture
async def client() -> AsyncIterator[AsyncQdrantClient]:
    opened = AsyncQdrantClient(location=":memory:")
    yield opened
    await opened.close()


def store_on(client: AsyncQdrantClient, *, lease_s: float = 60.0, poll_s: float = 0.0) -> QdrantStore:
    options = QdrantOptions(poll_s=poll_s, lease_s=lease_s)
    return QdrantStore(client, location=":memory:", options=options, local=True)


async def holder_is(
    client: AsyncQdrantClient, *, host: str, pid: int, age_s: float = 0.0, token: str = "other"
) -> None:
    renewed = (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat()
    note = {"token": token, "host": host, "pid": pid, "renewed": renewed}
    await client.update_collection(COLLECTION, metadata={KEY: note})


async def left_version(client: AsyncQdrantClient) -> None:
    writer = await store_on(client).create_version("shop", spec({}))
    await writer.upsert(batch(["a"]))
    await writer.close()


async def test_another_process_is_refused_and_named(client: AsyncQdrantClient) -> None:
    await left_version(client)
    await holder_is(client, host="indexer-7", pid=42)
    store = store_on(client)
    with pytest.raises(StoreLockedError, match="being written by process 42 on indexer-7"):
        await store.resume_version("shop", "v0001")
    with pytest.raises(VersionConflictError, match="in use by process 42 on indexer-7"):
        await store.delete_version("shop", "v0001")
    # It died: nothing was heard of it for the length of the lease.
    await holder_is(client, host="indexer-7", pid=42, age_s=61)
    resumed = await store.resume_version("shop", "v0001")
    assert (await resumed.finish()).points == 1


@pytest.mark.service
async def test_a_dead_process_of_this_host_is_not_waited_for(client: AsyncQdrantClient) -> None:
    await left_version(client)
    ended = await asyncio.create_subprocess_exec("true")
    await ended.wait()
    # Also what a restarted container finds: its own host name and process id, another token.
    for pid in (ended.pid, os.getpid()):
        await holder_is(client, host=os.uname().nodename, pid=pid)
        writer = await store_on(client).resume_version("shop", "v0001")
        await writer.close()
    await holder_is(client, host=os.uname().nodename, pid=os.getppid())
    with pytest.raises(StoreLockedError, match=f"process {os.getppid()}"):
        await store_on(client).resume_version("shop", "v0001")


async def test_a_writer_that_lost_its_lease_writes_no_more(client: AsyncQdrantClient) -> None:
    store = store_on(client, lease_s=0.2)
    writer = await store.create_version("shop", spec({}))
    await holder_is(client, host="indexer-7", pid=42)

    async def write_on() -> None:
        while True:
            await writer.upsert(batch(["a"]))
            await asyncio.sleep(0.01)

    with pytest.raises(StoreLockedError, match="taken over by process 42 on indexer-7"):
        await write_on()
    with pytest.raises(StoreLockedError):
        await writer.finish()
    await writer.close()
    info = await client.get_collection(COLLECTION)
    assert (info.config.metadata or {})[KEY]["token"] == "other"


async def test_a_writer_that_was_stopped_asks_before_it_writes(
    client: AsyncQdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await store_on(client).create_version("shop", spec({}))
    now = time.monotonic()
    monkeypatch.setattr("vector_store.qdrant.lease.monotonic", lambda: now + 31)
    await writer.upsert(batch(["a"]))
    now += 31
    await holder_is(client, host="indexer-7", pid=42)
    for change in (writer.upsert(batch(["b"])), writer.delete(["a"]), writer.note("import", "1")):
        with pytest.raises(StoreLockedError, match="taken over by process 42 on indexer-7"):
            await change
    await writer.close()
    assert (await client.count(COLLECTION)).count == 1


async def test_a_writer_that_was_stopped_while_another_finished_is_told_so(
    client: AsyncQdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await store_on(client).create_version("shop", spec({}))
    await holder_is(client, host="indexer-7", pid=42, age_s=61)
    assert (await (await store_on(client).resume_version("shop", "v0001")).finish()).points == 0
    now = time.monotonic()
    monkeypatch.setattr("vector_store.qdrant.lease.monotonic", lambda: now + 31)
    with pytest.raises(StoreLockedError, match="taken over by another writer, which has ended"):
        await writer.upsert(batch(["a"]))
    assert (await client.count(COLLECTION)).count == 0


async def test_finishing_looks_at_the_server_first(client: AsyncQdrantClient) -> None:
    writer = await store_on(client).create_version("shop", spec({}))
    await holder_is(client, host="indexer-7", pid=42)
    with pytest.raises(StoreLockedError, match="taken over"):
        await writer.finish()
    assert (await store_on(client).list_versions("shop"))[0].state == "building"


async def test_a_held_lease_is_renewed_and_given_back(client: AsyncQdrantClient) -> None:
    store = store_on(client, lease_s=0.2)
    writer = await store.create_version("shop", spec({}))
    await asyncio.sleep(0.5)
    with pytest.raises(StoreLockedError):
        await store_on(client, lease_s=0.2).resume_version("shop", "v0001")
    await writer.upsert(batch(["a"]))
    await writer.close()
    info = await client.get_collection(COLLECTION)
    assert (info.config.metadata or {})[KEY]["token"] == ""


async def test_of_two_that_take_it_at_once_one_has_it(client: AsyncQdrantClient) -> None:
    await left_version(client)
    stores = [store_on(client, poll_s=0.05) for _ in range(2)]
    found = await asyncio.gather(
        *(store.resume_version("shop", "v0001") for store in stores), return_exceptions=True
    )
    refused = [result for result in found if isinstance(result, StoreLockedError)]
    writers = [result for result in found if not isinstance(result, BaseException)]
    assert (len(refused), len(writers)) == (1, 1)
    await writers[0].close()
