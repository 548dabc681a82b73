"""Writes to a server are cut by the bytes of vectors and payloads, since it refuses large requests."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.fields import FieldType
from tests.vector_store.local_qdrant import open_local_qdrant
from tests.vector_store.samples import DIMENSION, batch, spec
from vector_store import catalog_version
from vector_store.qdrant import points as qdrant_points
from vector_store.types import PayloadBatch


@given(st.lists(st.integers(0, 20 << 20), max_size=30), st.integers(1, 40))
def test_parts_cover_everything_and_hold_no_more_than_they_may(sizes: list[int], most: int) -> None:
    parts = list(qdrant_points._writes(sizes, most))
    assert [size for part in parts for size in sizes[part]] == sizes
    for part in parts:
        chosen = sizes[part]
        assert 1 <= len(chosen) <= most
        assert len(chosen) == 1 or sum(chosen) <= qdrant_points._WRITE_BYTES


async def test_large_payloads_are_written_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdrant_points, "_WRITE_BYTES", 10_000)
    payloads = [{"html": "x" * 4_000} for _ in range(7)]
    ids = [f"i{row}" for row in range(7)]
    async with open_local_qdrant() as store:
        writer = await store.create_version("shop", spec({}))
        seen: list[int] = []
        upsert, update = store._client.upsert, store._client.batch_update_points

        async def counted(collection: str, *, points: Any, wait: bool) -> Any:
            seen.append(len(json.dumps(points.payloads)))
            return await upsert(collection, points=points, wait=wait)

        async def counted_update(collection: str, *, update_operations: Any, wait: bool) -> Any:
            seen.append(sum(len(json.dumps(each.set_payload.payload)) for each in update_operations))
            return await update(collection, update_operations=update_operations, wait=wait)

        monkeypatch.setattr(store._client, "upsert", counted)
        monkeypatch.setattr(store._client, "batch_update_points", counted_update)
        await writer.upsert(batch(ids, np.ones((7, DIMENSION), np.float32), payloads))
        assert await writer.set_payloads(PayloadBatch(ids, payloads)) == 7
        assert len(seen) == 8
        assert max(seen) < 10_000
        assert await writer.count() == 7


async def test_long_texts_are_split_into_words_on_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []

    def noted(one: str, *arguments: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return encode[one](*arguments[0], **arguments[1])

    encode: dict[str, Any] = {
        name: getattr(catalog_version, name) for name in ("encode_points", "encode_payloads")
    }
    for name in encode:
        monkeypatch.setattr(
            catalog_version, name, lambda *given, one=name, **options: noted(one, given, options)
        )
    async with open_local_qdrant() as store:
        writer = await store.create_version("shop", spec({"title": FieldType.TEXT}))
        for title, on_the_loop in (
            ("红色连衣裙", True),
            ("裙子" * 10_000, False),
            (["裙子" * 5_000] * 2, False),
        ):
            threads.clear()
            await writer.upsert(batch(["a"], payloads=[{"title": title}]))
            await writer.set_payloads(PayloadBatch(["a"], [{"title": title}]))
            assert threads == [on_the_loop, on_the_loop]
