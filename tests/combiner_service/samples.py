"""Reading metrics in tests."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.registry import Collector


def sample(collectors: Iterable[Collector], name: str, **labels: str) -> float | None:
    """The value of a metric with exactly these labels; None where there is none."""
    for collector in collectors:
        for metric in collector.collect():
            for one in metric.samples:
                if one.name == name and one.labels == labels:
                    return one.value
    return None
