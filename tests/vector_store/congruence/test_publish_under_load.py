"""Publishing and rolling back while queries run."""

from __future__ import annotations

import asyncio

from vector_store import VectorStore

from ..samples import batch, build, features, numbered

SWITCHES = 50


async def test_no_query_fails_and_each_is_of_one_version(store: VectorStore, catalog: str) -> None:
    vectors = features(20)
    for colour in ("red", "blue"):
        await build(store, catalog, batch(numbered(20), vectors, [{"colour": colour}] * 20))
    colours = {"v0001": "red", "v0002": "blue"}
    stopped = asyncio.Event()
    answered: list[str] = []

    async def search(seed: int) -> None:
        number = seed
        while not stopped.is_set():
            async with store.reader(catalog) as reader:
                expected = colours[reader.info.version]
                found = await reader.query(vectors[number % 20], limit=20)
                assert len(found) == 20
                assert {scored.item.payload["colour"] for scored in found} == {expected}
                item = await reader.retrieve(["i003"])
                assert item["i003"].payload["colour"] == expected
                answered.append(reader.info.version)
            number += 1
            await asyncio.sleep(0)

    searches = [asyncio.create_task(search(seed)) for seed in range(2)]
    for _ in range(SWITCHES // 2):
        assert (await store.rollback(catalog)).version == "v0001"
        await asyncio.sleep(0.005)
        assert (await store.publish(catalog, "v0002")).version == "v0002"
        await asyncio.sleep(0.005)
    stopped.set()
    await asyncio.gather(*searches)
    assert set(answered) == set(colours)
