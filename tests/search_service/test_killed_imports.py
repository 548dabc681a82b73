"""Imports whose client or whose service is killed at random points end as one that nothing disturbed."""

from __future__ import annotations

import asyncio
import os
import random
import sys
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


async def test_killed_clients_lose_nothing(tmp_path: Path) -> None:
    chance, kills = random.Random(5), 0
    async with running_service("edge", tmp_path) as service:
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


async def test_killed_services_lose_nothing(tmp_path: Path) -> None:
    chance, embedder, port = random.Random(6), FakeEmbedder(), free_ports(1)[0]
    server, address = await start(embedder)
    url = f"edge://{tmp_path / 'store'}"
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
