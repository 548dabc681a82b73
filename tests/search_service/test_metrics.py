"""Metrics of searches, and the number of items that no index holds: with answers, never in their way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, Gauge

from cir.search.v1 import search_pb2 as pb
from cir.search.v1.search_pb2 import SearchRequest, Turn
from search_service.metrics import SearchMetrics
from search_service.store import FRESH_SECONDS, UnindexedItems
from tests.search_service.conftest import Stack
from vector_store.base import CatalogVersion
from vector_store.errors import StoreUnavailableError
from vector_store.types import VersionInfo, VersionSpec, VersionState


@pytest.mark.service
async def test_stages_kinds_and_results_are_counted(stack: Stack) -> None:
    metrics, registry = SearchMetrics(), CollectorRegistry()
    for collector in metrics.collectors():
        registry.register(collector)
    composed = pb.Turn(reference=pb.Reference(item_id="item-1"), text="in red")
    for turns, exact in (([composed], True), ([pb.Turn(text="red"), pb.Turn(text="blue")], False)):
        answer = await stack.search.Search(
            pb.SearchRequest(parent="catalogs/shop", turns=turns, page_size=3, exact=exact)
        )
        metrics.record_response(answer)

    def value(name: str, **labels: str) -> float:
        return registry.get_sample_value(name, labels) or 0.0

    assert value("cir_search_turns_total", kind="composed") == 1
    assert value("cir_search_turns_total", kind="text_only") == 1
    assert value("cir_search_turns_total", kind="continued") == 1
    assert value("cir_search_results_count") == 2
    assert value("cir_search_results_sum") == 6
    assert value("cir_search_exact_total") == 2  # so small a catalog has no index
    for stage, times in (("total", 2), ("combine", 2), ("store", 2), ("embed_images", 0)):
        assert value("cir_search_stage_seconds_count", stage=stage) == times


class Reader:
    """A version that says how many items are in no index."""

    def __init__(self, catalog: str, count: int, state: VersionState = VersionState.PUBLISHED) -> None:
        self.info = VersionInfo(catalog, "v1", state, VersionSpec(4, "clip-1", {}), 10, datetime.now(UTC))
        self.count = count
        self.asked = 0
        self.away = False

    async def unindexed(self) -> int:
        self.asked += 1
        if self.away:
            raise StoreUnavailableError("away")
        return self.count


def shown(gauge: Gauge) -> dict[str, float]:
    return {sample.labels["catalog"]: sample.value for family in gauge.collect() for sample in family.samples}


def gauge() -> Gauge:
    return Gauge("unindexed", "Unindexed.", ["catalog"], registry=None)


async def count_unindexed(items: UnindexedItems, reader: Any) -> int | None:
    return await items.count(cast(CatalogVersion, reader))


async def test_the_store_is_asked_now_and_then() -> None:
    now = [0.0]
    metric = gauge()
    items = UnindexedItems(metric, lambda: now[0])
    reader = Reader("shop", 7)
    for _ in range(5):
        assert await count_unindexed(items, reader) == 7
    assert reader.asked == 1
    reader.count = 9
    now[0] = FRESH_SECONDS
    assert await count_unindexed(items, reader) == 9
    assert shown(metric) == {"shop": 9}
    reader.away = True
    now[0] = 2 * FRESH_SECONDS
    assert await count_unindexed(items, reader) is None
    assert shown(metric) == {"shop": 9}


async def test_only_published_versions_are_shown_and_only_so_many() -> None:
    metric = gauge()
    items = UnindexedItems(metric)
    assert await count_unindexed(items, Reader("old", 3, VersionState.RETIRED)) == 3
    assert shown(metric) == {}
    for number in range(150):
        await count_unindexed(items, Reader(f"catalog-{number}", number))
    assert len(shown(metric)) == 100
    assert shown(metric)["catalog-149"] == 149
    assert len(items._counts) == 100


@pytest.mark.service
async def test_an_answer_tells_whether_it_is_exact(stack: Stack) -> None:
    answer = await stack.search.Search(SearchRequest(parent="catalogs/shop", turns=[Turn(text="red")]))
    # So small a catalog has no index: every vector is compared, asked for or not.
    assert answer.explanation.unindexed_items == 40
    assert answer.explanation.exact
    assert answer.timings.HasField("store")
