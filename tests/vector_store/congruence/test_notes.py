"""Notes that writers keep with a version while it is being built."""

from __future__ import annotations

import pytest

from vector_store import VectorStore
from vector_store.errors import VersionConflictError
from vector_store.types import VersionState

from ..samples import batch, spec

pytestmark = pytest.mark.service


async def test_notes_outlive_the_writer_and_are_replaced_by_key(store: VectorStore, catalog: str) -> None:
    writer = await store.create_version(catalog, spec({}))
    assert await writer.notes() == {}
    await writer.note("one", "1")
    await writer.note('odd." key', "é\n" * 100)
    await writer.note("one", "2")
    assert await writer.notes() == {"one": "2", 'odd." key': "é\n" * 100}
    await writer.upsert(batch(["a"]))
    await writer.close()
    with pytest.raises(VersionConflictError, match="closed"):
        await writer.note("one", "3")
    resumed = await store.resume_version(catalog, "v0001")
    assert await resumed.notes() == {"one": "2", 'odd." key': "é\n" * 100}
    await resumed.note("one", "")
    assert (await resumed.notes())['odd." key'] == "é\n" * 100
    info = await resumed.finish()
    assert (info.state, info.points) == (VersionState.READY, 1)
    with pytest.raises(VersionConflictError):
        await resumed.notes()
