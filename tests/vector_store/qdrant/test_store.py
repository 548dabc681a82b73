"""The store on a Qdrant server, on the client's local mode and on clients that answer as a server does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import AsyncQdrantClient, models

from cir.fields import FieldType
from tests.vector_store.grpc_stand_in import StandIn
from tests.vector_store.samples import batch, build, features, numbered, spec
from vector_store import open_store
from vector_store.errors import CatalogNotFoundError, StoreUnavailableError, VersionNotFoundError
from vector_store.qdrant import QdrantOptions
from vector_store.qdrant.catalogs import (
    alias_changes,
    alias_name,
    aliases_of_history,
    collection_name,
    history_from_aliases,
    parse_collection,
)
from vector_store.qdrant.store import QdrantStore
from vector_store.types import Quantization, VersionState
from vector_store.versions import PublishHistory


def test_collections_and_aliases() -> None:
    assert parse_collection(collection_name("a-b_c", "v0001")) == ("a-b_c", "v0001")
    for foreign in ("shop", "cir.shop", "cir.shop.v1", "cir.Shop.v0001", "cir..v0001", "xcir.shop.v0001"):
        assert parse_collection(foreign) is None
    history = PublishHistory("v0012", tuple(f"v{n:04d}" for n in range(1, 12)))
    aliases = {**aliases_of_history("shop", history), **aliases_of_history("shop2", PublishHistory("v0001"))}
    assert history_from_aliases("shop", aliases) == history
    assert history_from_aliases("sho", aliases) == PublishHistory()
    assert aliases[alias_name("shop")] == "cir.shop.v0012"


HISTORIES = st.lists(st.integers(1, 6), min_size=1, max_size=5, unique=True).map(
    lambda numbers: PublishHistory(f"v{numbers[0]:04d}", tuple(f"v{n:04d}" for n in numbers[1:]))
)


@given(before=HISTORIES, after=HISTORIES)
def test_a_switch_that_is_cut_off_leaves_a_published_version(
    before: PublishHistory, after: PublishHistory
) -> None:
    aliases = {"other": "x", **aliases_of_history("shop", before)}
    for change in alias_changes("shop", aliases, after):
        if isinstance(change, models.CreateAliasOperation):
            aliases[change.create_alias.alias_name] = change.create_alias.collection_name
        else:
            assert isinstance(change, models.DeleteAliasOperation)
            del aliases[change.delete_alias.alias_name]
        assert history_from_aliases("shop", aliases).published in (before.published, after.published)
    assert aliases == {"other": "x", **aliases_of_history("shop", after)}


@pytest.fixture
async def client() -> AsyncIterator[AsyncQdrantClient]:
    opened = AsyncQdrantClient(location=":memory:")
    yield opened
    await opened.close()


def store_on(client: AsyncQdrantClient, *, quantize_above_bytes: int = 1 << 30) -> QdrantStore:
    return QdrantStore(
        client,
        location=":memory:",
        options=QdrantOptions(poll_s=0.0),
        local=True,
        quantize_above_bytes=quantize_above_bytes,
    )


@pytest.mark.service
async def test_every_field_of_the_schema_is_indexed() -> None:
    server = StandIn()
    await server.start()
    store = open_store(f"qdrant://127.0.0.1:{server.port}")
    schema = {"colour": FieldType.KEYWORD, "sale": FieldType.BOOL, "title": FieldType.TEXT}
    writer = await store.create_version("shop", spec(schema))
    assert server.indexed == ['data."colour"', 'data."sale"', 'terms."sale"', 'terms."title"']
    await writer.close()
    await store.close()
    await server.stop()


@pytest.mark.service
async def test_the_key_is_sent_and_a_wrong_one_is_named() -> None:
    server = StandIn(api_key="secret")
    await server.start()
    url = f"qdrant://127.0.0.1:{server.port}"
    right, wrong = open_store(url, api_key="secret"), open_store(url, api_key="other")
    assert await right.list_catalogs() == []
    for act in (wrong.check(), wrong.list_catalogs(), wrong.create_version("shop", spec())):
        with pytest.raises(StoreUnavailableError, match="refuses the API key"):
            await act
    await right.close()
    await wrong.close()
    await server.stop()


@pytest.mark.service
@pytest.mark.slow
async def test_a_server_that_goes_away_and_returns() -> None:
    server = StandIn()
    await server.start()
    store = open_store(f"qdrant://127.0.0.1:{server.port}", timeout_s=2)
    await build(store, "shop", batch(["a"]))
    async with store.open_version("shop") as pinned:
        await server.stop()
        with pytest.raises(StoreUnavailableError, match="cannot search version v0001 of catalog 'shop'"):
            await pinned.query(features(1)[0], limit=1)
    with pytest.raises(StoreUnavailableError):
        await store.list_catalogs()
    await store.close()


@pytest.mark.service
async def test_close_lets_running_calls_finish() -> None:
    server = StandIn()
    await server.start()
    store = open_store(f"qdrant://127.0.0.1:{server.port}")
    await build(store, "shop", batch(numbered(50), features(50)))
    async with store.open_version("shop") as pinned:
        running = [asyncio.create_task(pinned.query(v, limit=20)) for v in features(4)]
        await asyncio.sleep(0.001)
        await store.close()
        assert [len(found) for found in await asyncio.gather(*running)] == [20] * 4
        with pytest.raises(StoreUnavailableError):
            await pinned.count()
    await server.stop()


async def test_what_a_newer_program_wrote_is_refused(
    client: AsyncQdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("vector_store.qdrant.catalogs._FORMAT", 2)
        await build(store_on(client), "shop", batch(["a"]))
    with pytest.raises(StoreUnavailableError, match="has format 2, and this program reads formats up to 1"):
        await store_on(client).list_versions("shop")


async def test_two_processes_see_the_same(client: AsyncQdrantClient) -> None:
    one, other = store_on(client), store_on(client)
    await build(one, "shop", batch(["a"]))
    await build(other, "shop", batch(["b"]))
    assert await one.list_versions("shop") == await other.list_versions("shop")
    assert (await one.rollback("shop")).version == "v0001"
    async with other.open_version("shop") as pinned:
        assert pinned.info.version == "v0001"
        await one.delete_catalog("shop")
        with pytest.raises(VersionNotFoundError):
            await pinned.query(features(1)[0], limit=1)
    with pytest.raises(CatalogNotFoundError):
        await other.list_versions("shop")


async def test_versions_created_at_once_get_different_ids(client: AsyncQdrantClient) -> None:
    stores = [store_on(client) for _ in range(3)]
    writers = await asyncio.gather(*(store.create_version("shop", spec()) for store in stores))
    assert sorted(writer.info.version for writer in writers) == ["v0001", "v0002", "v0003"]


async def test_what_a_dead_process_hid_is_swept(client: AsyncQdrantClient) -> None:
    dying = store_on(client)
    await build(dying, "shop", batch(["a"]))
    pinned = dying.open_version("shop")
    await pinned.__aenter__()
    await build(dying, "shop", batch(["b"]), keep=0)
    assert await client.collection_exists("cir.shop.v0001")
    await build(store_on(client), "shop", batch(["c"]))
    assert not await client.collection_exists("cir.shop.v0001")
    await pinned.__aexit__(None, None, None)


async def test_foreign_collections_are_left_alone(client: AsyncQdrantClient) -> None:
    params = models.VectorParams(size=2, distance=models.Distance.DOT)
    await client.create_collection("shop", vectors_config=params)
    await client.create_collection("cir.shop.v0001", vectors_config=params)
    store = store_on(client)
    with pytest.raises(StoreUnavailableError, match="has no metadata"):
        await store.list_versions("shop")
    await client.delete_collection("cir.shop.v0001")
    assert await store.list_catalogs() == []
    await build(store, "shop", batch(["a"]))
    await store.delete_catalog("shop")
    assert await client.collection_exists("shop")


async def test_finish_waits_for_green_and_compresses_large_versions(client: AsyncQdrantClient) -> None:
    store = store_on(client, quantize_above_bytes=4 * 8 * 10 - 1)
    writer = await store.create_version("shop", spec())
    await writer.upsert(batch(numbered(10)))
    looks = [
        models.CollectionStatus.GREEN,  # the writer makes sure that it still is the writer
        models.CollectionStatus.GREEN,
        models.CollectionStatus.YELLOW,
        *3 * [models.CollectionStatus.GREEN],
    ]
    real = client.get_collection

    async def get_collection(name: str) -> models.CollectionInfo:
        info = await real(name)
        if looks:
            info.status = looks.pop(0)
        return info

    with (
        mock.patch.object(client, "get_collection", get_collection),
        mock.patch.object(client, "update_collection", wraps=client.update_collection) as updated,
    ):
        info = await writer.finish()
    assert looks == []
    assert info.state is VersionState.READY
    changes = [call.kwargs for call in updated.call_args_list if "quantization_config" in call.kwargs]
    assert changes[0]["quantization_config"].scalar.type is models.ScalarType.INT8
    assert info.spec.index.quantization is Quantization.AUTO


async def test_publishing_waits_for_green_and_gives_up_in_time(client: AsyncQdrantClient) -> None:
    options = QdrantOptions(poll_s=0.01, publish_timeout_s=0.05)
    store = QdrantStore(client, location=":memory:", options=options, local=True)
    await build(store, "shop", batch(["a"]), publish=False)
    yellow = await client.get_collection("cir.shop.v0001")
    yellow.status = models.CollectionStatus.YELLOW
    with (
        mock.patch.object(client, "get_collection", mock.AsyncMock(return_value=yellow)),
        pytest.raises(StoreUnavailableError, match="is yellow, not green, after 0 s; wait until Qdrant"),
    ):
        await store.publish("shop", "v0001")
    assert (await store.get_catalog("shop")).published is None
    assert (await store.publish("shop", "v0001")).state is VersionState.PUBLISHED


async def test_what_a_restarted_server_left_undone_is_started(client: AsyncQdrantClient) -> None:
    store = store_on(client)
    await build(store, "shop", batch(["a"]), publish=False)
    grey = await client.get_collection("cir.shop.v0001")
    grey.status = models.CollectionStatus.GREY
    started: list[str] = []
    real = client.get_collection

    async def get_collection(name: str) -> models.CollectionInfo:
        return await real(name) if started else grey

    async def update_collection(name: str, **changes: object) -> bool:
        assert changes == {"optimizers_config": models.OptimizersConfigDiff()}
        started.append(name)
        return True

    with (
        mock.patch.object(client, "get_collection", get_collection),
        mock.patch.object(client, "update_collection", update_collection),
    ):
        assert (await store.publish("shop", "v0001")).state is VersionState.PUBLISHED
    assert started == ["cir.shop.v0001"]


async def test_a_failed_optimiser_is_an_error(client: AsyncQdrantClient) -> None:
    store = store_on(client)
    writer = await store.create_version("shop", spec())
    red = await client.get_collection("cir.shop.v0001")
    red.status = models.CollectionStatus.RED
    with (
        mock.patch.object(client, "get_collection", mock.AsyncMock(return_value=red)),
        pytest.raises(StoreUnavailableError, match="optimiser failed"),
    ):
        await writer.finish()
    assert (await store.list_versions("shop"))[0].state is VersionState.BUILDING
