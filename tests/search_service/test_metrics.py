"""Metrics of searches, from the answers that a client got."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from cir.search.v1 import search_pb2 as pb
from search_service.metrics import SearchMetrics
from tests.search_service.conftest import Stack


async def test_stages_kinds_and_results_are_counted(stack: Stack) -> None:
    metrics, registry = SearchMetrics(), CollectorRegistry()
    for collector in metrics.collectors():
        registry.register(collector)
    composed = pb.Turn(reference=pb.Reference(item_id="item-1"), text="in red")
    for turns, exact in (([composed], True), ([pb.Turn(text="red"), pb.Turn(text="blue")], False)):
        answer = await stack.search.Search(
            pb.SearchRequest(catalog="catalogs/shop", turns=turns, limit=3, exact=exact)
        )
        metrics.answered(answer)

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
