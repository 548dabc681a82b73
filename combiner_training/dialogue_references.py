"""Turns that continue: triplets whose reference is the composed query of another triplet that leads to it.

The method trains on pairs of one image and one text. In a dialogue the reference of a second turn is not an
image but the composed query of the first, which no image's features look like; a Combiner that never saw
such references loses its way within a few turns. Here, for a share of the triplets of an epoch, the
reference is replaced by the composed query of a triplet that leads to it, scaled as the search service does.
"""

from __future__ import annotations

import numpy as np
import torch

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

    def references(self, network: CombinerNetwork, share: float, random: np.random.Generator) -> Float32:
        """Return a reference for the `share` of the triplets, (n, d) float32; NaN for the others.

        It is the query of one or two triplets before; a triplet that none leads to keeps its own. Those that
        are drawn are composed and no others. `network` composes as it serves, without dropout, and is left
        in training mode.
        """
        chosen = np.flatnonzero((self._count > 0) & (random.random(len(self._count)) < share))
        references: Float32 = np.full((len(self._count), self._data.features.dimension), np.nan, np.float32)
        if not len(chosen):
            return references
        last = self._before(chosen, random)
        images = self._data.features.images.take(self._data.references[last])
        # A composed query has no length of its own: it keeps that of the image it grew from.
        lengths = np.linalg.norm(images, axis=1, keepdims=True)
        network.eval()
        deep = np.flatnonzero((self._count[last] > 0) & (random.random(len(last)) < 0.5))
        if len(deep):
            first = self._before(last[deep], random)
            grown = self._data.features.images.take(self._data.references[first])
            lengths[deep] = np.linalg.norm(grown, axis=1, keepdims=True)
            images[deep] = self._composed(network, grown, lengths[deep], first, random)
        references[chosen] = self._composed(network, images, lengths, last, random)
        network.train()
        return references

    def _before(self, triplets: Rows, random: np.random.Generator) -> Rows:
        """Draw a triplet that leads to the reference of each; every one has some."""
        drawn = (random.random(len(triplets)) * self._count[triplets]).astype(np.int64)
        before: Rows = self._leading[self._first[triplets] + drawn]
        return before

    def _composed(
        self,
        network: CombinerNetwork,
        images: Float32,
        lengths: Float32,
        triplets: Rows,
        random: np.random.Generator,
    ) -> Float32:
        texts = self._data.features.texts.take(self._data.drawn_texts(random)[triplets])
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
