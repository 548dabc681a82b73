"""Answers of combiners of somebody's own: brought to length 1, or refused by what is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from combiner_service.builtin import SlerpCombiner
from combiner_service.combiner import Combined, Combiner, CombinerInfo, Float32, Needs, Pairs
from combiner_service.errors import BadAnswerError
from combiner_service.inversion import Inversion
from combiner_training.evaluation.evaluate import EvaluationError, combine_all

DIMENSION = 4
FEATURES = np.random.default_rng(3).normal(size=(3, DIMENSION)).astype(np.float32)
WEIGHTS = np.full(3, 0.5, np.float32)


class Own(Combiner):
    """Answers with whatever it was made with."""

    def __init__(self, answer: Any) -> None:
        super().__init__(CombinerInfo(name="own", description="", takes_text_weight=True))
        self.answer = answer

    def _combine(self, image_features: Float32, text_features: Float32) -> Combined:
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: Combined = self.answer
        return answer


class OwnWords(Inversion):
    """An inversion that answers with whatever it was made with."""

    def __init__(self, answer: Any) -> None:
        info = CombinerInfo("own", "", False, DIMENSION, needs=Needs.TEXT_TOWER, token_width=2)
        super().__init__(info, "{image} {text}")
        self.answer = answer

    def _invert(self, image_features: Float32) -> Float32:
        answer: Float32 = self.answer
        return answer


@given(
    st.lists(st.floats(1e-30, 1e30), min_size=3, max_size=3),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from([None, 0.0, 0.3, 0.5, 1.0]),
)
def test_only_the_direction_of_an_answer_counts(
    lengths: list[float], dtype: type[np.floating[Any]], text_weight: float | None
) -> None:
    unit = SlerpCombiner().combine(FEATURES, FEATURES[::-1].copy()).query_vectors
    longer = (unit.astype(np.float64) * np.array(lengths)[:, None]).astype(dtype)
    call = (FEATURES, FEATURES[::-1].copy(), text_weight)
    got = Own(Combined(longer, WEIGHTS)).combine(*call)
    expected = Own(Combined(unit, WEIGHTS)).combine(*call)
    np.testing.assert_allclose(got.query_vectors, expected.query_vectors, atol=1e-5)
    assert got.query_vectors.dtype == np.float32


def _with(row: list[float]) -> Float32:
    return np.array([[1, 0, 0, 0], row, [0, 1, 0, 0]], np.float32)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (FEATURES, "answered with a ndarray; expected a Combined"),
        (None, "answered with a NoneType"),
        (
            Combined(FEATURES[:, :2], WEIGHTS),
            r"query_vectors of shape \(3, 2\).*of shape \(3, 4\)",
        ),
        (Combined(FEATURES[:2], WEIGHTS), "query_vectors of shape"),
        (Combined(FEATURES.astype(int), WEIGHTS), "dtype int64"),
        (Combined(FEATURES, WEIGHTS[:1]), "text_weights of shape"),
        (Combined(_with([0, 0, 0, 0]), WEIGHTS), "row 1, of length 0"),
        (Combined(_with([np.nan, 0, 0, 0]), WEIGHTS), "row 1, of length nan"),
        (Combined(_with([0, np.inf, 0, 0]), WEIGHTS), "row 1, of length inf"),
        (ZeroDivisionError("by zero"), "own failed: ZeroDivisionError: by zero"),
    ],
)
def test_what_is_no_answer_is_named_by_evaluation_and_by_the_combiner(answer: Any, words: str) -> None:
    with pytest.raises(EvaluationError, match=f"^own .*{words}|^{words}"):
        combine_all(Own(answer), FEATURES, FEATURES, ["a", "b", "c"])
    (outcome,) = (
        Own(answer).combine_all([Pairs(FEATURES, FEATURES)]) if not isinstance(answer, Exception) else [None]
    )
    assert outcome is None or isinstance(outcome, BadAnswerError)


@pytest.mark.parametrize("words", [FEATURES, FEATURES[:2, :2], [[1.0, 2.0]] * 3, None])
def test_words_of_another_shape_are_refused(words: Any) -> None:
    with pytest.raises(BadAnswerError, match=r"own answered with .* expected floats of shape \(3, 2\)"):
        OwnWords(words).invert(FEATURES)
