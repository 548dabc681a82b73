"""A trained network behind the contract of all combiners, whatever computes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from combiner_service.combiner import Combined, Combiner, CombinerInfo, Float32, Pairs, weighted
from combiner_service.errors import CombinerError, NotFiniteError


class NetworkRuntime(Protocol):
    """Weights of a Combiner network where they are computed. Safe to call from several threads."""

    def __call__(self, image: Float32, text: Float32) -> tuple[Float32, Float32]:
        """Combine (n, d) raw image features with (n, d) raw text features.

        Returns the unit query vectors, (n, d), and lambda, (n,), all float32.
        """
        ...


class NetworkCombiner(Combiner):
    """A trained network. Its text weight is lambda.

    Safe to call from several threads at once: evaluation changes nothing in the network.
    """

    def __init__(self, info: CombinerInfo, runtime: NetworkRuntime) -> None:
        super().__init__(info)
        self.runtime = runtime

    def combine_all(self, calls: Sequence[Pairs]) -> list[Combined | CombinerError]:
        """Combine all calls in one forward pass: weights are read once, which is what a small batch costs."""
        outcomes: dict[int, Combined | CombinerError] = {}
        for index, call in enumerate(calls):
            try:
                self._check(call)
            except CombinerError as error:
                outcomes[index] = error
        sound = [index for index in range(len(calls)) if index not in outcomes]
        if sound:
            for index, answer in zip(sound, self._forward([calls[index] for index in sound]), strict=True):
                try:
                    _check_answer(answer)
                    outcomes[index] = weighted(answer, calls[index], self.own_weight)
                except NotFiniteError as error:
                    outcomes[index] = error
        return [outcomes[index] for index in range(len(calls))]

    def _combine(self, image_features: Float32, text_features: Float32) -> Combined:
        answer = self._forward([Pairs(image_features, text_features)])[0]
        _check_answer(answer)
        return answer

    def _forward(self, calls: Sequence[Pairs]) -> list[Combined]:
        counts = [len(call.image_features) for call in calls]
        image = np.concatenate([call.image_features for call in calls])
        text = np.concatenate([call.text_features for call in calls])
        query_vectors, lambdas = self.runtime(image, text)
        meant = meaningful_lambdas(lambdas, image, text)
        ends = np.cumsum(counts)[:-1]
        parts = (np.split(each, ends) for each in (query_vectors, lambdas, meant))
        return [Combined(*answer) for answer in zip(*parts, strict=True)]


# Lambda says how much of the text and of the image is added, as they are: where one is longer than this many
# times the other, it is no share of either.
_LONGEST_RATIO = 2.0
# A lambda nearer to 0 or 1 than this weighs nothing: the learned vector carries what it leaves out.
_SATURATED = 0.01


def meaningful_lambdas(lambdas: Float32, image: Float32, text: Float32) -> Float32:
    """Return lambdas, (n,), with NaN for those that cannot mean anything.

    A lambda is a share of text and image only where their features, (n, d), are of about the same length, and
    where it is not saturated.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        ratio = np.linalg.norm(image, axis=1) / np.linalg.norm(text, axis=1)
        alike = (ratio <= _LONGEST_RATIO) & (ratio >= 1 / _LONGEST_RATIO)
        between = (lambdas >= _SATURATED) & (lambdas <= 1 - _SATURATED)
    return np.where(alike & between, lambdas, np.float32(np.nan)).astype(np.float32)


def _check_answer(answer: Combined) -> None:
    """Finite features can still be too large for float32 inside the network, or end in the zero vector."""
    norms = np.linalg.norm(answer.query_vectors, axis=1)
    bad = np.flatnonzero(~(np.abs(norms - 1.0) < 1e-3) | ~np.isfinite(answer.text_weights))
    if bad.size:
        raise NotFiniteError(
            f"row {bad[0]}: the network's query vector has no direction or left the range of float32; "
            "send raw features of the model that the combiner was trained on"
        )
