"""A trained network behind the contract of all combiners, whatever computes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from combiner_service.combiner import Combined, Combiner, CombinerInfo, Float32, Pairs
from combiner_service.errors import CombinerError, NotFiniteError


class NetworkRuntime(Protocol):
    """Weights of a Combiner network where they are computed. Safe to call from several threads."""

    def __call__(self, image: Float32, text: Float32, text_weight: Float32 | None) -> tuple[Float32, Float32]:
        """Combine (n, d) raw image features with (n, d) raw text features.

        `text_weight`, (n,), takes the place of lambda where it is not NaN; None is NaN everywhere. Returns
        the unit query vectors, (n, d), and the lambda that was used, (n,), all float32.
        """
        ...


class NetworkCombiner(Combiner):
    """A trained network. Its text weight is lambda; a given text weight replaces it.

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
                    outcomes[index] = answer
                except NotFiniteError as error:
                    outcomes[index] = error
        return [outcomes[index] for index in range(len(calls))]

    def _combine(
        self, image_features: Float32, text_features: Float32, text_weight: float | None
    ) -> Combined:
        (answer,) = self._forward([Pairs(image_features, text_features, text_weight)])
        _check_answer(answer)
        return answer

    def _forward(self, calls: Sequence[Pairs]) -> list[Combined]:
        counts = [len(call.image_features) for call in calls]
        image = np.concatenate([call.image_features for call in calls])
        text = np.concatenate([call.text_features for call in calls])
        weights = None
        if any(call.text_weight is not None for call in calls):
            given = [np.nan if call.text_weight is None else call.text_weight for call in calls]
            weights = np.repeat(np.array(given, np.float32), counts)
        query_vectors, text_weights = self.runtime(image, text, weights)
        ends = np.cumsum(counts)[:-1]
        return [
            Combined(*parts)
            for parts in zip(np.split(query_vectors, ends), np.split(text_weights, ends), strict=True)
        ]


def _check_answer(answer: Combined) -> None:
    """Finite features can still be too large for float32 inside the network, or end in the zero vector."""
    norms = np.linalg.norm(answer.query_vectors, axis=1)
    bad = np.flatnonzero(~(np.abs(norms - 1.0) < 1e-3) | ~np.isfinite(answer.text_weights))
    if bad.size:
        raise NotFiniteError(
            f"row {bad[0]}: the network's query vector has no direction or left the range of float32; "
            "send raw features of the model that the combiner was trained on"
        )
