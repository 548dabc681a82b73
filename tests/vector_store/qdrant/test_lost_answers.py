"""Calls of the store that are made twice, as where an answer was lost and the call is tried again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.vector_store.grpc_stand_in import StandIn
from tests.vector_store.samples import batch, features, numbered, spec
from vector_store import VectorStore, open_store
from vector_store.filters import Filter, HasId
from vector_store.qdrant import QdrantOptions
from vector_store.types import PayloadBatch

pytestmark = pytest.mark.service


async def use(store: VectorStore) -> dict[str, Any]:
    """Do all that a store can with a catalog; returns what was answered and what it holds."""
    seen: dict[str, Any] = {}
    for number in range(3):
        writer = await store.create_version("shop", spec())
        await writer.upsert(batch(numbered(5 + number), features(5 + number)))
        await writer.note("import", str(number))
        await writer.close()
        writer = await store.resume_version("shop", writer.info.version)
        seen[f"notes {number}"] = await writer.notes()
        await writer.upsert(batch(["more"]))
        seen[f"deleted {number}"] = await writer.delete(["i001"])
        info = await writer.finish()
        await store.publish("shop", info.version, keep=1)
    seen["back"] = (await store.rollback("shop")).version
    async with store.open_version("shop") as opened:
        seen["online"] = (
            await opened.set_payloads(PayloadBatch(["i000"], [{"colour": "red"}], ["new.jpg"])),
            await opened.delete(["i002", "nobody"]),
            await opened.delete_where(Filter(must=(HasId(("i003",)),))),
        )
        items, _ = await opened.scroll(limit=100, with_features=True)
        seen["items"] = {i.id: (i.payload, i.image, np.round(i.features, 3).tolist()) for i in items}  # type: ignore[arg-type]
    aborted = await store.create_version("shop", spec({}))
    await aborted.abort()
    await store.delete_version("shop", "v0003")
    seen["versions"] = [
        (i.version, i.state, i.points, i.changed_online) for i in await store.list_versions("shop")
    ]
    await store.delete_catalog("shop")
    seen["catalogs"] = await store.list_catalogs()
    return seen


async def test_every_call_may_be_made_twice() -> None:
    found = []
    for applies_twice in (False, True):
        server = StandIn(applies_twice=applies_twice)
        await server.start()
        options = [QdrantOptions(poll_s=0.0)]
        async with open_store(f"qdrant://127.0.0.1:{server.port}", options=options) as store:
            found.append(await use(store))
        await server.stop()
    once, twice = found
    assert once["versions"] == [("v0002", "published", 4, True)]
    assert once["items"].keys() == {"i000", "i004", "i005", "more"}
    assert twice == once
