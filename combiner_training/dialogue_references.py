"""Turns that continue: triplets whose reference is the composed query of another triplet that leads to it.

The method trains on pairs of one image and one text. In a dialogue the reference of a second turn is not an
image but the composed query of the first, which no image's features look like; a Combiner that never saw
such references loses its way within a few turns. Here, for a share of the triplets of each batch, the
reference is replaced by the composed query of a triplet that leads to it, scaled as the search service does.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from combiner_service.combiner import Float32
from combiner_service.torch_network import CombinerNetwork
from combiner_training.data import Rows, TrainingData
from combiner_training.evaluation.ranking import NONE

_PAIRS_AT_ONCE = 8192


class DialogueReferences:
    """Triplets that lead to each triplet: they have its reference among their targets."""

    def __init__(self, data: TrainingData) -> None:
        self._data = data
        triplets, _ = np.nonzero(data.targets != NONE)
        images = data.targets[data.targets != NONE]
        order = np.argsort(images, kind="stable")
        self._leading = triplets[order]
        self._first = np.searchsorted(images[order], data.references, side="left")
        self._count = np.searchsorted(images[order], data.references, side="right") - self._first

    def references(self, network: CombinerNetwork, random: np.random.Generator) -> Float32:
        """Return a reference for each triplet, (n, d) float32; NaN where no triplet leads to it.

        It is the query of one or two triplets before. `network` composes as it serves, without dropout, and
        is left in training mode.
        """
        network.eval()
        images = self._data.features.images.take(self._data.references)
        lengths = np.linalg.norm(images, axis=1, keepdims=True)
        once = self._composed(network, images, lengths, random)
        before, known = self._before(random)
        # A composed query has no length of its own: it keeps that of the image it grew from.
        again = np.where(known, once[before], images)
        grown = np.where(known, lengths[before], lengths)
        twice = self._composed(network, again, grown, random)
        last, known = self._before(random)
        deep = random.random((len(last), 1)) < 0.5
        network.train()
        result: Float32 = np.where(known, np.where(deep, twice[last], once[last]), np.nan).astype(np.float32)
        return result

    def _before(self, random: np.random.Generator) -> tuple[Rows, NDArray[np.bool_]]:
        """Draw a triplet that leads to each one's reference, and say, (n, 1), if there is one."""
        drawn = self._first + (random.random(len(self._first)) * self._count).astype(np.int64)
        known = self._count > 0
        return np.where(known, self._leading[np.where(known, drawn, 0)], 0), known[:, None]

    def _composed(
        self, network: CombinerNetwork, images: Float32, lengths: Float32, random: np.random.Generator
    ) -> Float32:
        texts = self._data.features.texts.take(self._data.drawn_texts(random))
        device = next(network.parameters()).device
        parts = []
        with torch.inference_mode():
            for start in range(0, len(images), _PAIRS_AT_ONCE):
                pairs = (
                    torch.from_numpy(each[start : start + _PAIRS_AT_ONCE]).to(device)
                    for each in (images, texts)
                )
                parts.append(network(*pairs)[0].cpu().numpy())
        composed: Float32 = np.concatenate(parts) * lengths
        return composed
