"""Imports whose client, service or store is killed at random points end as one that nothing disturbed."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Awaitable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import cir
from benchmarks._processes import running
from cir_cli.local.readiness import free_ports
from tests.search_service.either_engine import running_service
from tests.search_service.neighbours import FakeEmbedder, features_of, start
from tests.search_service.test_import_items import check, image, start_version, stored
from tests.vector_store.engines import KILLABLE, REAL_ENGINES, engine_url, running_server
from vector_store import open_store

pytestmark = [pytest.mark.service, pytest.mark.slow]

# A long run sets more; each point costs the start of a process.
KILLS = int(os.environ.get("CIR_KILLS", "3"))
ITEMS = 60
BATCH = 3
# Of a batch that is written, noted or answered when the process dies, and of those behind it.
IN_FLIGHT = BATCH * 8
SCRIPT = Path(__file__).with_name("killed_import.py")


async def embedded(embedder: FakeEmbedder, images: int) -> None:
    while embedder.images < images:  # noqa: ASYNC110  # the stand-in knows no events
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("name", REAL_ENGINES)
async def test_killed_clients_lose_nothing(tmp_path: Path, name: str) -> None:
    chance, kills = random.Random(5), 0
    async with running_service(name, tmp_path) as service:
        await start_version(service)
        service.embedder.delay = 0.05

        async def client() -> asyncio.subprocess.Process:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, str(SCRIPT), service.address, "v0002", "one", str(ITEMS), str(BATCH)),
                env={**os.environ, "PYTHONPATH": os.getcwd()},
            )

        for _ in range(KILLS):
            child = await client()
            wanted = min(ITEMS - 1, service.embedder.images + chance.randint(1, 6))
            reached = asyncio.ensure_future(embedded(service.embedder, wanted))
            ended = asyncio.ensure_future(child.wait())
            await asyncio.wait({reached, ended}, return_when=asyncio.FIRST_COMPLETED)
            reached.cancel()
            await asyncio.sleep(chance.uniform(0, 0.1))
            if child.returncode is None:
                child.kill()
                kills += 1
            await ended
        service.embedder.delay = 0.0
        assert await (await client()).wait() == 0
        assert ITEMS <= service.embedder.images <= ITEMS + kills * IN_FLIGHT
        check(await stored(service), range(ITEMS))
    assert kills or KILLS == 0


@pytest.mark.parametrize("name", REAL_ENGINES)
async def test_killed_services_lose_nothing(tmp_path: Path, name: str) -> None:
    async with engine_url(name, tmp_path / "store") as url:
        await import_with_killed_services(tmp_path, url)


async def import_with_killed_services(tmp_path: Path, url: str) -> None:
    chance, embedder, port = random.Random(6), FakeEmbedder(), free_ports(1)[0]
    server, address = await start(embedder)
    environment = {"EMBEDDER": address, "STORE": url, "LOG_LEVEL": "warning"}
    items = [cir.ItemWrite(write.item.id, content=write.content) for write in map(image, range(ITEMS))]
    importing: asyncio.Future[cir.Imported] | None = None
    async with cir.AsyncClient(f"127.0.0.1:{port}") as client:
        for life in range(KILLS + 1):
            with ExitStack() as stopping:
                serving = running("search_service", environment, log=tmp_path / "log", port=port)
                process = (await asyncio.to_thread(stopping.enter_context, serving)).process
                if importing is None:
                    await client.create_catalog("shop")
                    await client.create_version("shop")
                    embedder.delay = 0.05
                    importing = asyncio.ensure_future(
                        client.import_items("shop", "v0002", items, batch_size=BATCH, retry_seconds=120)
                    )
                if life < KILLS:
                    reached = asyncio.ensure_future(
                        embedded(embedder, embedder.images + chance.randint(1, 6))
                    )
                    waited: set[asyncio.Future[object]] = {reached, importing}  # type: ignore[arg-type]
                    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                    reached.cancel()
                    await asyncio.sleep(chance.uniform(0, 0.1))
                    process.kill()
                    process.wait()
                    continue
                done = await importing
                assert (done.done, done.written, done.rejected) == (ITEMS, ITEMS, 0)
                assert (await client.finish_version("shop", "v0002", expected_items=ITEMS)).state == "ready"
                await client.publish("shop", "v0002")
    await server.stop(None)
    async with open_store(url) as store, store.open_version("shop") as opened:
        found, _ = await opened.scroll(limit=1000, with_features=True)
    assert sorted(item.id for item in found) == sorted(item.id for item in items)
    for item in found:
        expected = features_of(b"picture %d" % int(item.id.removeprefix("item-")))
        assert item.features is not None
        np.testing.assert_allclose(item.features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", KILLABLE)
async def test_killed_servers_of_the_store_lose_nothing(tmp_path: Path, name: str) -> None:
    # Enough that none of the kills comes too late.
    count = (KILLS + 1) * IN_FLIGHT * 2
    items = [cir.ItemWrite(write.item.id, content=write.content) for write in map(image, range(count))]
    chance = random.Random(7)
    answered: list[int] = []
    async with (
        running_server(name, tmp_path / "qdrant") as server,
        running_service(server.url, tmp_path, store_timeout_s=1 if name == "grpc" else 3) as service,
        cir.AsyncClient(service.address) as client,
    ):
        await start_version(service)
        service.embedder.delay = 0.05
        importing = asyncio.ensure_future(
            client.import_items(
                "shop",
                "v0002",
                items,
                batch_size=BATCH,
                retry_seconds=120,
                on_progress=lambda progress: answered.append(progress.done),
            )
        )
        for _ in range(KILLS):
            reached = asyncio.ensure_future(
                embedded(service.embedder, service.embedder.images + chance.randint(1, 6))
            )
            waited: set[asyncio.Future[object]] = {reached, importing}  # type: ignore[arg-type]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            reached.cancel()
            await asyncio.sleep(chance.uniform(0, 0.1))
            await server.kill()
            assert not importing.done()
            await check_refusals_without_a_store(client)
            await server.start()
        done = await importing
        assert (done.done, done.written, done.rejected) == (count, count, 0)
        # What was answered for once stays done.
        assert answered == sorted(answered)
        check(await stored(service), range(count))


async def check_refusals_without_a_store(client: cir.AsyncClient) -> None:
    """Calls that need the store say at once that it is away, and that trying again may help."""
    calls: list[Awaitable[object]] = [
        client.catalog("shop"),
        client.search("shop", item="item-0000"),
        client.upsert("shop", [cir.ItemWrite("x", content=b"x")]),
        client.finish_version("shop", "v0002"),
    ]
    for refusal in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(refusal, cir.Unavailable)
        assert refusal.reason == "STORE_UNAVAILABLE"
        assert refusal.retry_after
