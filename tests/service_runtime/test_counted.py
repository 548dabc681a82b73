"""Counts in sentences."""

from __future__ import annotations

import pytest

from service_runtime.counted import counted


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 items were"), (1, "1 item was"), (2, "2 items were"), (21, "21 items were")]
)
def test_one_is_not_many(count: int, said: str) -> None:
    assert counted(count, "item was", "items were") == said
