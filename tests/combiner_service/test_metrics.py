import re

from hypothesis import given
from hypothesis import strategies as st

from combiner_service.builtin import builtin_names
from combiner_service.metrics import CombinerMetrics
from tests.combiner_service.conftest import sample

KINDS = {"sum", "slerp", "image", "text", "network", "other"}


@given(st.text() | st.text().map(lambda text: f"combiner/{text}"))
def test_any_name_has_one_of_six_kinds(name: str) -> None:
    assert CombinerMetrics(builtin_names()).kind_of(name) in KINDS


def test_names_have_their_kind() -> None:
    names = ("sum", "slerp", "image", "text", "combiner/shop", "combiner", "SUM", "")
    metrics = CombinerMetrics(builtin_names())
    assert [metrics.kind_of(name) for name in names] == [
        *("sum", "slerp", "image", "text", "network", "other", "other", "other")
    ]


def test_whatever_is_counted_the_number_of_series_is_bounded() -> None:
    metrics = CombinerMetrics(builtin_names())
    for number in range(1000):
        metrics.started(f"combiner/{number}", 0.1)
        metrics.combined(f"made up {number}", 3, 0.1)
    collectors = metrics.collectors()
    kinds = {
        one.labels["kind"]
        for collector in collectors
        for metric in collector.collect()
        for one in metric.samples
        if "kind" in one.labels
    }
    assert kinds == {"network", "other"}
    assert sample(collectors, "cir_combiner_queue_seconds_count", kind="network") == 1000
    assert sample(collectors, "cir_combiner_batch_items_sum", kind="other") == 3000


def test_gauges_read_what_is_watched_and_names_follow_the_rule() -> None:
    metrics = CombinerMetrics(builtin_names())
    metrics.watch(waiting=lambda: 3, networks=lambda: 2, unusable=lambda: 1)
    metrics.loaded(0.2)
    metrics.load_failed()
    collectors = metrics.collectors()
    assert sample(collectors, "cir_combiner_waiting_items") == 3
    assert sample(collectors, "cir_combiner_networks_loaded") == 2
    assert sample(collectors, "cir_combiner_unusable_checkpoints") == 1
    assert sample(collectors, "cir_combiner_loads_total", outcome="ok") == 1
    assert sample(collectors, "cir_combiner_loads_total", outcome="failed") == 1
    for collector in collectors:
        for metric in collector.collect():
            assert re.fullmatch(r"cir_combiner_[a-z_]+", metric.name)
            assert metric.documentation.endswith((".", "why."))
