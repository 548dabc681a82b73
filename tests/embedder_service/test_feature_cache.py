"""The cache of features."""

import numpy as np
import pytest

from embedder_service.feature_cache import FeatureCache

pytestmark = pytest.mark.torch


def row(value: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.full(3, value, np.float32)


def test_the_longest_unused_is_forgotten_first() -> None:
    cache = FeatureCache(2)
    cache.put("a", row(1))
    cache.put("b", row(2))
    assert cache.get("a") is not None
    cache.put("c", row(3))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    assert (cache.hits, cache.misses) == (2, 1)


def test_kept_rows_are_copies() -> None:
    cache = FeatureCache(1)
    batch = np.zeros((4, 3), np.float32)
    cache.put("a", batch[0])
    batch[0] = 9
    kept = cache.get("a")
    assert kept is not None
    assert kept.tolist() == [0, 0, 0]
    assert kept.base is None
    assert not kept.flags.writeable


def test_size_zero_keeps_nothing_and_counts_nothing() -> None:
    cache = FeatureCache(0)
    cache.put("a", row(1))
    assert cache.get("a") is None
    assert not cache.enabled
    assert (cache.hits, cache.misses) == (0, 0)
