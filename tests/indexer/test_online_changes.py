"""What the next run makes of a version whose items were changed online."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from indexer import FolderSource, IndexingOptions, IndexReport, index
from tests.indexer.fake_embedder import DIMENSION, FakeEmbedder, features_of
from tests.indexer.helpers import fill, jpeg, stored
from tests.vector_store.engines import ENGINES, engine
from vector_store import VectorStore
from vector_store.types import Item, PayloadBatch, PointBatch

pytestmark = pytest.mark.service

FOREIGN = np.full((1, DIMENSION), 7, dtype=np.float32)


@pytest.fixture(params=ENGINES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VectorStore]:
    """An embedded store keeps features in the ledger, one on a server is read for them."""
    async with engine(request.param, tmp_path / "store") as opened:
        yield opened


async def run(
    store: VectorStore, tmp_path: Path, address: str, *, sync: bool = False, rebuild_ledger: bool = False
) -> IndexReport:
    options = IndexingOptions(
        ledger_path=tmp_path / "ledger.sqlite",
        keep_features=(tmp_path / "store").exists(),
        sync=sync,
        rebuild_ledger=rebuild_ledger,
    )
    return await index(FolderSource(tmp_path / "photos"), "shop", store, address, options)


async def replace_online(store: VectorStore, item: Item) -> None:
    """Another image under the same id, with the payload and the location that were there."""
    async with store.open_version("shop") as reader:
        await reader.upsert(PointBatch([item.id], FOREIGN, [item.payload], [item.image]))


@pytest.mark.parametrize("sync", [False, True])
async def test_the_source_is_right_for_its_items_and_others_stay_unless_synced(
    store: VectorStore, tmp_path: Path, embedder: FakeEmbedder, address: str, sync: bool
) -> None:
    ids = fill(tmp_path / "photos", 20)
    await run(store, tmp_path, address)
    before = await stored(store)
    async with store.open_version("shop") as reader:
        # As many come as go: their number tells nothing.
        await reader.upsert(PointBatch(["extra"], FOREIGN, [{"filename": "extra"}], ["extra.jpg"]))
        await reader.delete(["0001.jpg"])
        await reader.set_payloads(PayloadBatch(["0004.jpg"], [{"filename": "changed"}]))
    await replace_online(store, before["0002.jpg"])
    report = await run(store, tmp_path, address, sync=sync)
    assert report.published
    assert any("changed online" in note for note in report.notes)
    after = await stored(store)
    assert sorted(after) == sorted(ids + ([] if sync else ["extra"]))
    for item_id in ids:
        item, content = after[item_id], (tmp_path / "photos" / item_id).read_bytes()
        assert (item.payload, item.image, item.online) == (*_facts(before[item_id]), False)
        assert item.features is not None
        np.testing.assert_allclose(item.features, features_of(content), atol=1e-3)
    if not sync:
        assert after["extra"].payload == {"filename": "extra"}
        extra = after["extra"].features
        assert extra is not None
        np.testing.assert_allclose(extra, FOREIGN[0], rtol=1e-5)
    # Nothing is left to be noticed.
    assert not (await run(store, tmp_path, address, sync=sync)).published


async def test_the_folders_of_a_version_are_the_indexers_alone(
    store: VectorStore, tmp_path: Path, address: str
) -> None:
    async def folders() -> tuple[str, ...]:
        (version,) = [info for info in await store.list_versions("shop") if info.state == "published"]
        return version.spec.image_folders

    fill(tmp_path / "photos", 3)
    await run(store, tmp_path, address)
    assert await folders() == (str(tmp_path / "photos"),)
    async with store.open_version("shop") as reader:
        await reader.upsert(PointBatch(["extra"], FOREIGN, [{}], ["/etc/secret.jpg"]))
        await reader.set_payloads(PayloadBatch(["0001.jpg"], [{}], ["/home/secret.jpg"]))
    assert (await run(store, tmp_path, address)).published
    assert (await stored(store))["extra"].image == "/etc/secret.jpg"
    assert await folders() == (str(tmp_path / "photos"),)
    # Of another source they come along with the items that stay, and go with them.
    fill(tmp_path / "more", 2, start=50)
    options = IndexingOptions(ledger_path=tmp_path / "ledger.sqlite", keep_features=True)
    await index(FolderSource(tmp_path / "more"), "shop", store, address, options)
    assert await folders() == (str(tmp_path / "more"), str(tmp_path / "photos"))
    alone = replace(options, sync=True, allow_delete=True)
    await index(FolderSource(tmp_path / "more"), "shop", store, address, alone)
    assert await folders() == (str(tmp_path / "more"),)


async def test_a_payload_alone_is_noticed_and_costs_no_encoding(
    store: VectorStore, tmp_path: Path, embedder: FakeEmbedder, address: str
) -> None:
    fill(tmp_path / "photos", 5)
    await run(store, tmp_path, address)
    embedder.batches.clear()
    async with store.open_version("shop") as reader:
        await reader.set_payloads(PayloadBatch(["0001.jpg"], [{}]))
    assert (await run(store, tmp_path, address)).published
    assert (await stored(store))["0001.jpg"].payload["filename"] == "0001.jpg"
    assert embedder.batches == []


async def test_a_vector_that_was_written_online_is_not_taken_for_the_ledgers(
    store: VectorStore, tmp_path: Path, embedder: FakeEmbedder, address: str
) -> None:
    fill(tmp_path / "photos", 5)
    await run(store, tmp_path, address)
    item = (await stored(store))["0001.jpg"]
    await replace_online(store, item)
    # Gone from the source it stays as it is, and the ledger does not think that it knows it.
    (tmp_path / "photos" / "0001.jpg").rename(tmp_path / "0001.jpg")
    await run(store, tmp_path, address)
    np.testing.assert_allclose(await _features(store), FOREIGN[0], rtol=1e-5)
    (tmp_path / "0001.jpg").rename(tmp_path / "photos" / "0001.jpg")
    await run(store, tmp_path, address)
    np.testing.assert_allclose(await _features(store), features_of(jpeg(1)), atol=1e-3)


async def test_a_rebuilt_ledger_does_not_trust_it_either(
    store: VectorStore, tmp_path: Path, embedder: FakeEmbedder, address: str
) -> None:
    fill(tmp_path / "photos", 5)
    await run(store, tmp_path, address)
    await replace_online(store, (await stored(store))["0001.jpg"])
    (tmp_path / "ledger.sqlite").unlink()
    await run(store, tmp_path, address, rebuild_ledger=True)
    np.testing.assert_allclose(await _features(store), features_of(jpeg(1)), atol=1e-3)


def _facts(item: Item) -> tuple[object, str]:
    return item.payload, item.image


async def _features(store: VectorStore) -> NDArray[np.float32]:
    features = (await stored(store))["0001.jpg"].features
    assert features is not None
    return features
