from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_store.base import SearchOptions
from vector_store.ranking import DEFAULT_EF, by_score, diversify, first_fetch, group, power_of_two, search_ef
from vector_store.types import Item, ScoredItem


def scored(item_id: str, score: float, **payload: object) -> ScoredItem:
    return ScoredItem(Item(item_id, payload, "", 1.0), score)  # type: ignore[arg-type]


def ids(items: list[ScoredItem]) -> list[str]:
    return [s.item.id for s in items]


def test_equal_scores_go_by_id() -> None:
    assert ids(by_score([scored("b", 0.5), scored("c", 0.9), scored("a", 0.5)])) == ["c", "a", "b"]


def test_groups() -> None:
    ranked = [
        scored("a", 0.9, k="x"),
        scored("b", 0.8, k="x"),
        scored("c", 0.7),
        scored("d", 0.6, k=["x", "y"]),
        scored("e", 0.5, k=["y", "z", None]),
        scored("f", 0.4, k=[]),
        scored("g", 0.3, k=["z", "z"]),
    ]
    assert ids(group(ranked, "k", 1)) == ["a", "c", "e", "f"]
    assert ids(group(ranked, "k", 2)) == ["a", "b", "c", "e", "f", "g"]


@given(seed=st.integers(0, 10_000), count=st.integers(1, 12), diversity=st.floats(0.0, 1.0))
def test_diversity_agrees_with_its_definition(seed: int, count: int, diversity: float) -> None:
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(count, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ranked = by_score(scored(f"{row:02d}", float(score)) for row, score in enumerate(vectors[:, 0]))
    rows = [int(s.item.id) for s in ranked]
    gram = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    got = [int(s.item.id) for s in diversify(ranked, vectors[rows], diversity, count)]
    assert sorted(got) == list(range(count))

    def worth(row: int, taken: list[int]) -> float:
        nearest = max((gram[row, other] for other in taken), default=0.0)
        return float((1 - diversity) * vectors[row, 0] - diversity * nearest)

    for place, row in enumerate(got):
        best = max(worth(other, got[:place]) for other in got[place:])
        assert worth(row, got[:place]) == pytest.approx(best, abs=1e-5)
    half = diversify(ranked, vectors[rows], diversity, count // 2)
    assert [int(s.item.id) for s in half] == got[: count // 2]


def test_windows() -> None:
    assert [power_of_two(n) for n in (0, 1, 2, 3, 64, 65)] == [1, 1, 2, 4, 64, 128]
    plain, pooled = SearchOptions(), SearchOptions(diversity=0.5)
    assert first_fetch(10, plain) == 11
    assert {first_fetch(w, pooled) for w in (1, 100, 128)} == {256}
    assert first_fetch(10_000, pooled) == 16_384
    assert {search_ef(fetch, plain) for fetch in (1, 100, 128)} == {DEFAULT_EF}
    assert search_ef(200, plain) == 256
    assert search_ef(10, SearchOptions(ef=300)) == 300
