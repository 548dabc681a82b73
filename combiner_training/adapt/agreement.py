"""Columns compared with the images: if they show it, which values they contradict, which they tell.

For each attribute a linear classifier is fitted from the frozen features of the images to its values, and
each item is judged by one that has not seen it (cross-fitting). A column that the images do not show (a
price, a supplier) teaches a Combiner nothing. Where the classifier is sure, an unknown value is taken from it
and a value that it contradicts counts as unknown. Pure, numpy alone.

After the idea of confident learning (Northcutt, Jiang and Chuang, JAIR 2021), with a ridge regression in
place of a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from combiner_service.combiner import Float32, Float64
from combiner_training.adapt.columns import ABSENT, UNKNOWN, Attribute, Codes, infer_absent

_FOLDS = 5
_RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
# Items that the classifiers are fitted on; more make them no better.
_MOST_ITEMS = 20_000
_ROUNDS = 2
_ALMOST = 0.95
# Below these, what the images say corrects nothing.
_LEAST_KNOWN, _LEAST_VISIBLE = 50, 0.5
# Items of each value of an attribute, on average, for another to be guessed from it.
_ITEMS_OF_VALUE = 10
_SEED = 7


@dataclass(frozen=True, slots=True)
class Agreement:
    """One attribute beside the images.

    `agreement` is the share of known values that the images tell, `visible` the same beyond guessing from
    the commonest value, or from the attribute `guessed_from`, where that guesses better. `filled` values were
    unknown, `set_aside` ones are contradicted.
    """

    name: str
    agreement: float
    visible: float
    guessed_from: str = ""
    filled: int = 0
    set_aside: int = 0


def compare_with_images(
    attributes: Sequence[Attribute], features: Float32, *, correct: bool = True
) -> tuple[list[Attribute], list[Agreement]]:
    """Return the attributes with `visible` measured, and with `correct` their values compared with images.

    `features` (n, d) are raw. Attributes that others depend on come first, so that what a kind does not have
    is known before it is judged.
    """
    shown = basis(features)
    given = infer_absent(attributes)
    current = list(given)
    order = sorted(range(len(current)), key=lambda place: bool(current[place].head))
    measured: dict[str, Agreement] = {}
    for turn in range(_ROUNDS if correct else 1):
        for place in order:
            scores = cross_fitted(shown, current[place].codes, len(current[place].values))
            if turn == 0:
                measured[current[place].name] = _measured(current[place], scores, given)
            found = measured[current[place].name]
            current[place] = replace(current[place], visible=found.visible)
            known = int(current[place].known.sum())
            if correct and scores is not None and known >= _LEAST_KNOWN and found.visible >= _LEAST_VISIBLE:
                heads = {one.name: one for one in current}
                current[place] = _corrected(current[place], scores, given[place], heads)
                current = infer_absent(current)
    return current, [
        replace(
            measured[before.name],
            filled=int((~before.known & after.known).sum()),
            set_aside=int((before.known & (after.codes != before.codes)).sum()),
        )
        for before, after in zip(given, current, strict=True)
    ]


def basis(features: Float32) -> Float32:
    """Unit features, centred and scaled, with a column of ones: (n, d) -> (n, d + 1) float32."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    centred /= max(1e-9, float(np.sqrt((centred**2).sum(axis=1).mean())))
    return np.hstack([centred, np.ones((len(unit), 1))]).astype(np.float32)


def cross_fitted(shown: Float32, codes: Codes, count: int) -> Float32 | None:
    """Scores (n, count) of each value for each item, by classifiers that have not seen the item's own value.

    Of a few strengths of the ridge the one that agrees most often is taken. None where too few items have a
    value to judge by.
    """
    known = np.flatnonzero(codes >= 0)
    if len(known) < 2 * _FOLDS or count < 2:
        return None
    known = np.random.default_rng(_SEED).permutation(known)[:_MOST_ITEMS]
    parts = [known[part::_FOLDS] for part in range(_FOLDS)]
    grams, sums = [], []
    for rows in parts:
        seen = shown[rows].astype(np.float64)
        wanted = np.zeros((len(rows), count))
        wanted[np.arange(len(rows)), codes[rows]] = 1.0
        grams.append(seen.T @ seen)
        sums.append(seen.T @ wanted)
    gram, total = np.sum(grams, axis=0), np.sum(sums, axis=0)
    best: tuple[float, Float32] | None = None
    for ridge in _RIDGES:
        added = ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
        weights = [
            np.linalg.solve(gram - own + added, total - told).astype(np.float32)
            for own, told in zip(grams, sums, strict=True)
        ]
        scores: Float32 = shown @ np.mean(weights, axis=0)
        for rows, own in zip(parts, weights, strict=True):
            scores[rows] = shown[rows] @ own
        agreement = float((scores[known].argmax(axis=1) == codes[known]).mean())
        if best is None or agreement > best[0]:
            best = agreement, scores
    return best[1] if best else None


def _measured(one: Attribute, scores: Float32 | None, attributes: Sequence[Attribute]) -> Agreement:
    if scores is None:
        return Agreement(one.name, 0.0, 0.0)
    known = one.known
    agreement = float((scores.argmax(axis=1)[known] == one.codes[known]).mean())
    guesses = {"": float(np.bincount(one.codes[known]).max() / known.sum())}
    for other in attributes:
        both = known & other.known
        if other.name != one.name and both.sum() >= max(
            0.5 * known.sum(), _ITEMS_OF_VALUE * len(other.values)
        ):
            pairs = np.zeros((len(other.values), len(one.values)), np.int64)
            np.add.at(pairs, (other.codes[both], one.codes[both]), 1)
            guesses[other.name] = float(pairs.max(axis=1).sum() / both.sum())
    best = max(guesses, key=lambda name: guesses[name])
    visible = max(0.0, (agreement - guesses[best]) / max(1e-9, 1 - guesses[best]))
    return Agreement(one.name, agreement, visible, best)


def _corrected(
    one: Attribute, scores: Float32, given: Attribute, heads: Mapping[str, Attribute]
) -> Attribute:
    best = scores.argmax(axis=1).astype(np.int32)
    margin = scores.max(axis=1) - np.partition(scores, -2, axis=1)[:, -2]
    known = one.known
    sure = margin >= sure_margin(margin[known], best[known] == one.codes[known])
    # Of an item whose kind is unknown nobody knows whether it has a finer attribute.
    may_be_filled = heads[one.head].known if one.head else np.ones(len(best), bool)
    contradicted = given.known & sure & (best != given.codes)
    filled = ~given.known & (one.codes != ABSENT) & sure & may_be_filled
    codes = np.where(contradicted, UNKNOWN, np.where(filled, best, one.codes)).astype(np.int32)
    return replace(one, codes=codes)


def sure_margin(margin: Float32, right: NDArray[np.bool_]) -> float:
    """The smallest margin from which on judgements agree with what is known nearly as often as the surest do.

    Values may be wrong themselves, so that the surest judgements agree less often than always. The share that
    agrees is taken to grow with the margin (isotonic regression).
    """
    order = np.argsort(margin, kind="stable")
    shares = isotonic(right[order].astype(np.float64))
    surest = float(right[order][len(order) * 3 // 4 :].mean())
    good = np.flatnonzero(shares >= _ALMOST * surest)
    return float(margin[order[good[0]]]) if good.size else float("inf")


def isotonic(values: Float64) -> Float64:
    """The non-decreasing sequence nearest to `values` in squares, by pooling adjacent violators."""
    means: list[float] = []
    counts: list[int] = []
    for value in values.tolist():
        means.append(value)
        counts.append(1)
        while len(means) > 1 and means[-2] >= means[-1]:
            mean, count = means.pop(), counts.pop()
            means[-1] = (means[-1] * counts[-1] + mean * count) / (counts[-1] + count)
            counts[-1] += count
    return np.repeat(means, counts)
