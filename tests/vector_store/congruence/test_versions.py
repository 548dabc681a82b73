"""Creating, finishing, publishing, rolling back and dropping versions."""

from __future__ import annotations

import pytest

from vector_store import VectorStore
from vector_store.base import SearchOptions
from vector_store.errors import (
    CatalogNotFoundError,
    InvalidQueryError,
    StoreLockedError,
    VersionConflictError,
    VersionNotFoundError,
)
from vector_store.types import CatalogInfo, Placement, Quantization, VersionState

from ..samples import batch, build, features, numbered, spec

pytestmark = pytest.mark.service


async def test_life_of_a_version(store: VectorStore, catalog: str) -> None:
    writer = await store.create_version(catalog, spec({}))
    assert (writer.info.version, writer.info.state) == ("v0001", VersionState.BUILDING)
    await writer.upsert(batch(numbered(5)))
    await writer.upsert(batch(["i004", "i005"]))
    assert await writer.delete(["i000", "unknown"]) == 1
    assert await writer.count() == 5
    finished = await writer.finish()
    assert (finished.state, finished.points, finished.spec) == (VersionState.READY, 5, spec({}))

    published = await store.publish(catalog, "v0001")
    assert published.state is VersionState.PUBLISHED
    assert [c.published for c in await store.list_catalogs() if c.catalog == catalog] == [published]
    async with store.open_version(catalog) as pinned:
        assert pinned.info == published
        assert await pinned.count() == 5


async def test_nothing_is_visible_before_publishing(store: VectorStore, catalog: str) -> None:
    with pytest.raises(CatalogNotFoundError, match="no catalog"):
        await store.list_versions(catalog)
    info = await build(store, catalog, batch(numbered(3)), publish=False)
    with pytest.raises(CatalogNotFoundError, match="no published version"):
        async with store.open_version(catalog):
            pass
    async with store.open_version(catalog, info.version) as pinned:
        assert pinned.info.state is VersionState.READY
    assert [c.published for c in await store.list_catalogs() if c.catalog == catalog] == [None]


async def test_publish_switches_and_a_pinned_reader_stays(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(["old"]))
    async with store.open_version(catalog) as old:
        await build(store, catalog, batch(["new"]))
        assert list(await old.retrieve(["old", "new"])) == ["old"]
        async with store.open_version(catalog) as new:
            assert list(await new.retrieve(["old", "new"])) == ["new"]
    assert [i.state for i in await store.list_versions(catalog)] == [
        VersionState.RETIRED,
        VersionState.PUBLISHED,
    ]


async def test_publishing_again_changes_nothing(store: VectorStore, catalog: str) -> None:
    first = await build(store, catalog, batch(["a"]))
    assert await store.publish(catalog, "v0001") == first
    with pytest.raises(VersionConflictError, match="no earlier version"):
        await store.rollback(catalog)


async def test_rollback_goes_back_step_by_step(store: VectorStore, catalog: str) -> None:
    for name in ("a", "b", "c"):
        await build(store, catalog, batch([name]))
    back = await store.rollback(catalog)
    assert (back.version, back.state) == ("v0002", VersionState.PUBLISHED)
    assert [i.state for i in await store.list_versions(catalog)] == [
        VersionState.RETIRED,
        VersionState.PUBLISHED,
        VersionState.READY,
    ]
    async with store.open_version(catalog) as pinned:
        assert list(await pinned.retrieve(["a", "b", "c"])) == ["b"]
    assert (await store.rollback(catalog)).version == "v0001"
    with pytest.raises(VersionConflictError, match="no earlier version"):
        await store.rollback(catalog)
    assert (await store.publish(catalog, "v0003")).version == "v0003"
    assert (await store.rollback(catalog)).version == "v0001"


async def test_going_back_loses_no_item_unless_that_version_is_named(
    store: VectorStore, catalog: str
) -> None:
    await build(store, catalog, batch([]))
    await build(store, catalog, batch(numbered(3)))
    with pytest.raises(VersionConflictError, match=f"v0001 .*no items.*cir catalogs publish {catalog} v0001"):
        await store.rollback(catalog)
    assert [i.state for i in await store.list_versions(catalog)] == [
        VersionState.RETIRED,
        VersionState.PUBLISHED,
    ]
    assert (await store.publish(catalog, "v0001")).points == 0
    # What was written into it meanwhile counts.
    async with store.open_version(catalog) as pinned:
        await pinned.upsert(batch(["a"]))
    await store.publish(catalog, "v0002")
    back = await store.rollback(catalog)
    assert (back.version, back.points) == ("v0001", 1)
    # And where there is nothing to lose, nothing is refused.
    async with store.open_version(catalog) as pinned:
        await pinned.delete(["a"])
    await build(store, catalog, batch([]))
    assert (await store.rollback(catalog)).points == 0


async def test_a_retired_version_can_be_published_again(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(["a"]))
    await build(store, catalog, batch(["b"]))
    assert (await store.publish(catalog, "v0001")).state is VersionState.PUBLISHED
    assert (await store.rollback(catalog)).version == "v0002"


async def test_retention_keeps_the_newest_and_what_is_being_built(store: VectorStore, catalog: str) -> None:
    writer = await store.create_version(catalog, spec({}))
    for name in ("b", "c", "d"):
        await build(store, catalog, batch([name]), keep=10)
    await build(store, catalog, batch(["e"]), keep=2)
    versions = await store.list_versions(catalog)
    assert [i.version for i in versions] == ["v0001", "v0003", "v0004", "v0005"]
    await writer.abort()
    await store.publish(catalog, "v0005", keep=0)
    assert [i.version for i in await store.list_versions(catalog)] == ["v0005"]
    with pytest.raises(VersionConflictError):
        await store.rollback(catalog)


async def test_a_pinned_version_outlives_retention(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(["a"]))
    async with store.open_version(catalog) as pinned:
        await build(store, catalog, batch(["b"]), keep=0)
        assert [i.version for i in await store.list_versions(catalog)] == ["v0002"]
        with pytest.raises(VersionNotFoundError):
            async with store.open_version(catalog, "v0001"):
                pass
        found = await pinned.query(features(1)[0], limit=1)
        assert [scored.item.id for scored in found] == ["a"]


async def test_a_pinned_version_outlives_its_catalog(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(["a"]))
    async with store.open_version(catalog) as pinned:
        await store.delete_catalog(catalog)
        assert list(await pinned.retrieve(["a"])) == ["a"]
        with pytest.raises(CatalogNotFoundError):
            async with store.open_version(catalog):
                pass
        assert catalog not in [c.catalog for c in await store.list_catalogs()]
        await build(store, catalog, batch(["b"]))
        async with store.open_version(catalog) as newer:
            assert list(await newer.retrieve(["a", "b"])) == ["b"]
    assert len(await store.list_versions(catalog)) == 1


async def test_a_closed_writer_is_resumed(store: VectorStore, catalog: str) -> None:
    writer = await store.create_version(catalog, spec({}))
    await writer.upsert(batch(["a"]))
    await writer.close()
    with pytest.raises(VersionConflictError, match="still being built"):
        await store.publish(catalog, "v0001")
    with pytest.raises(VersionConflictError, match="still being built"):
        async with store.open_version(catalog, "v0001"):
            pass
    with pytest.raises(VersionConflictError, match="closed"):
        await writer.upsert(batch(["b"]))
    resumed = await store.resume_version(catalog, "v0001")
    await resumed.upsert(batch(["b"]))
    assert (await resumed.finish()).points == 2
    with pytest.raises(VersionConflictError, match="ready"):
        await store.resume_version(catalog, "v0001")


async def test_a_version_has_one_writer_at_a_time(store: VectorStore, catalog: str) -> None:
    writer = await store.create_version(catalog, spec({}))
    await writer.upsert(batch(["a"]))
    with pytest.raises(StoreLockedError, match=rf"v0001 of catalog '{catalog}' is .* process \d+"):
        await store.resume_version(catalog, "v0001")
    with pytest.raises(VersionConflictError, match="in use by process"):
        await store.delete_version(catalog, "v0001")
    await writer.upsert(batch(["b"]))
    await writer.close()
    again = await store.resume_version(catalog, "v0001")
    with pytest.raises(StoreLockedError):
        await store.resume_version(catalog, "v0001")
    assert (await again.finish()).points == 2


async def test_one_catalog_alone(store: VectorStore, catalog: str) -> None:
    with pytest.raises(CatalogNotFoundError, match="no catalog"):
        await store.get_catalog(catalog)
    await build(store, catalog, batch(["a"]), publish=False)
    assert (await store.get_catalog(catalog)).published is None
    published = await store.publish(catalog, "v0001")
    assert await store.get_catalog(catalog) == CatalogInfo(catalog, published)
    for name in ("", "../up", "A"):
        with pytest.raises(CatalogNotFoundError):
            await store.get_catalog(name)


async def test_an_aborted_version_is_gone(store: VectorStore, catalog: str) -> None:
    writer = await store.create_version(catalog, spec({}))
    await writer.upsert(batch(["a"]))
    await writer.abort()
    with pytest.raises(CatalogNotFoundError):
        await store.list_versions(catalog)


async def test_delete_version(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(["a"]))
    await build(store, catalog, batch(["b"]))
    with pytest.raises(VersionConflictError, match="is published"):
        await store.delete_version(catalog, "v0002")
    await store.delete_version(catalog, "v0001")
    with pytest.raises(VersionNotFoundError):
        await store.delete_version(catalog, "v0001")
    with pytest.raises(VersionConflictError, match="no earlier version"):
        await store.rollback(catalog)


async def test_a_left_over_version_can_be_dropped(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(["a"]))
    writer = await store.create_version(catalog, spec({}))
    await writer.close()
    await store.delete_version(catalog, "v0002")
    assert [i.version for i in await store.list_versions(catalog)] == ["v0001"]


async def test_unknown_versions(store: VectorStore, catalog: str) -> None:
    await build(store, catalog, batch(["a"]))
    for version in ("v0009", "v1", "../v0001", "", "v0001/shard"):
        for act in (store.publish, store.delete_version, store.resume_version):
            with pytest.raises(VersionNotFoundError):
                await act(catalog, version)


async def test_bad_catalog_names(store: VectorStore) -> None:
    for name in ["", "A", "../up", "a.b", "a/b", "-a", "x" * 64, "é"]:
        with pytest.raises(InvalidQueryError, match="catalog name"):
            await store.create_version(name, spec({}))
        with pytest.raises(CatalogNotFoundError):
            async with store.open_version(name):
                pass
        with pytest.raises(CatalogNotFoundError):
            await store.delete_catalog(name)


async def test_bad_specifications(store: VectorStore, catalog: str) -> None:
    for bad in [
        spec(dimension=0),
        spec(dimension=70_000),
        spec(hnsw_m=1),
        spec(hnsw_ef_construct=0),
        spec(placement=Placement(shards=-1)),
        spec(placement=Placement(replicas=2_000)),
        spec({"": next(iter(spec().schema.values()))}),
        spec({"a\nb": next(iter(spec().schema.values()))}),
    ]:
        with pytest.raises(InvalidQueryError):
            await store.create_version(catalog, bad)


@pytest.mark.parametrize("quantization", list(Quantization))
async def test_every_quantization(store: VectorStore, catalog: str, quantization: Quantization) -> None:
    chosen = spec(
        {},
        quantization=quantization,
        vectors_on_disk=True,
        payload_on_disk=True,
        hnsw_m=8,
        hnsw_ef_construct=32,
    )
    info = await build(store, catalog, batch(numbered(40), features(40)), chosen)
    assert info.spec == chosen
    async with store.open_version(catalog) as pinned:
        for row, vector in enumerate(features(40)[:5]):
            found = await pinned.query(vector, limit=1)
            assert found[0].item.id == f"i{row:03d}"
            assert found[0].score == pytest.approx(1.0, abs=1e-5)
            options = SearchOptions(ef=64, rescore=False, oversampling=4.0)
            assert len(await pinned.query(vector, limit=3, options=options)) == 3
        for oversampling in (0.5, 17.0, float("nan")):
            with pytest.raises(InvalidQueryError, match="oversampling"):
                await pinned.query(vector, limit=1, options=SearchOptions(oversampling=oversampling))


async def test_check_and_closed_store(store: VectorStore) -> None:
    facts = await store.check()
    assert {"engine", "version", "location"} <= set(facts)
