"""A name of a version means that version for ever: numbers are given out once, whatever becomes of them."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vector_store import VectorStore
from vector_store.copy import copy_version
from vector_store.errors import CatalogNotFoundError, StoreError, VersionConflictError, VersionNotFoundError
from vector_store.types import VersionState
from vector_store.versions import version_number

from ..samples import batch, spec

pytestmark = pytest.mark.service

_PLAIN: dict[str, Any] = {}
_ACTS = st.sampled_from(
    [
        "leave",
        "abort",
        "finish",
        "publish",
        "copy",
        "roll back",
        "delete one",
        "delete catalog",
        "delete catalog",
    ]
)


@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(acts=st.lists(_ACTS, min_size=3, max_size=6), pick=st.integers(0, 1000))
async def test_a_name_means_one_version_for_ever(store: VectorStore, acts: list[str], pick: int) -> None:
    catalog = f"test-{uuid.uuid4().hex[:12]}"
    created: dict[str, Any] = {}
    held: dict[str, str] = {}  # the item of each version, which no other version has
    try:
        for number, act in enumerate(acts):
            if act in ("leave", "abort", "finish", "publish"):
                writer = await store.create_version(catalog, spec(_PLAIN))
                name = writer.info.version
                assert name not in created
                assert all(version_number(name) > version_number(other) for other in created)
                created[name], held[name] = writer.info.created, f"item-{number}"
                await writer.upsert(batch([held[name]]))
                if act == "abort":
                    await writer.abort()
                elif act == "leave":
                    await writer.close()
                else:
                    await writer.finish()
                    if act == "publish":
                        await store.publish(catalog, name, keep=1)
            elif act == "copy":
                with suppress(CatalogNotFoundError):
                    copied = await copy_version(store, store, catalog)
                    published = (await store.get_catalog(catalog)).published
                    assert published is not None
                    assert copied.version not in created
                    created[copied.version], held[copied.version] = copied.created, held[published.version]
            elif act == "roll back":
                with suppress(VersionConflictError, CatalogNotFoundError):
                    await store.rollback(catalog)
            elif act == "delete one" and created:
                with suppress(VersionConflictError, VersionNotFoundError, CatalogNotFoundError):
                    await store.delete_version(catalog, sorted(created)[pick % len(created)])
            elif act == "delete catalog":
                with suppress(CatalogNotFoundError):
                    await store.delete_catalog(catalog)
            await _check_meanings(store, catalog, created, held)
    finally:
        with suppress(CatalogNotFoundError):
            await store.delete_catalog(catalog)


async def _check_meanings(
    store: VectorStore, catalog: str, created: dict[str, Any], held: dict[str, str]
) -> None:
    """Check that each name that there ever was is gone, or means what it meant."""
    there = {}
    with suppress(CatalogNotFoundError):
        there = {info.version: info for info in await store.list_versions(catalog)}
    assert list(there) == sorted(there, key=version_number)
    for name in created:
        if name not in there:
            with pytest.raises((VersionNotFoundError, CatalogNotFoundError)):
                await store.resume_version(catalog, name)
            continue
        assert there[name].created == created[name]
        if there[name].state is not VersionState.BUILDING:
            async with store.open_version(catalog, name) as pinned:
                assert list(await pinned.retrieve(list(held.values()))) == [held[name]]


async def test_versions_that_are_made_side_by_side_have_names_of_their_own(
    store: VectorStore, catalog: str
) -> None:
    async def make() -> str:
        writer = await store.create_version(catalog, spec(_PLAIN))
        await writer.abort()
        return writer.info.version

    names: list[str] = []
    for _ in range(3):
        with suppress(StoreError):
            names += await asyncio.gather(*(make() for _ in range(3)))
    assert len(set(names)) == len(names) > 0


async def test_there_is_a_version_after_v9999(store: VectorStore, catalog: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("vector_store.edge.catalogs.next_version", lambda _: "v9999")
    monkeypatch.setattr("vector_store.qdrant.store.next_version", lambda _: "v9999")
    await (await store.create_version(catalog, spec(_PLAIN))).finish()
    monkeypatch.undo()
    info = await (await store.create_version(catalog, spec(_PLAIN))).finish()
    assert info.version == "v10000"
    assert [each.version for each in await store.list_versions(catalog)] == ["v9999", "v10000"]
    published = await store.publish(catalog, "v10000", keep=0)
    assert [each.version for each in await store.list_versions(catalog)] == [published.version]
