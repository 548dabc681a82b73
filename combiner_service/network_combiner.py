"""The Combiner network behind the contract of all combiners: numpy in, numpy out."""

from __future__ import annotations

import numpy as np
import torch

from combiner_service.combiner import Combined, Combiner, CombinerInfo
from combiner_service.errors import NotFiniteError
from combiner_service.features import Float32
from combiner_service.network import CombinerNetwork


class NetworkCombiner(Combiner):
    """A trained network. Its text weight is lambda; a given text weight replaces it.

    Safe to call from several threads at once: evaluation changes nothing in the network.
    """

    def __init__(self, info: CombinerInfo, network: CombinerNetwork) -> None:
        super().__init__(info)
        self._network = network

    def _combine(
        self, image_features: Float32, text_features: Float32, text_weight: float | None
    ) -> Combined:
        with torch.inference_mode():
            vectors, weights = self._network(_tensor(image_features), _tensor(text_features), text_weight)
        answer = Combined(vectors.numpy(), weights.numpy())
        _check_answer(answer)
        return answer


def _tensor(features: Float32) -> torch.Tensor:
    # torch warns about memory that it could write to by mistake, such as the bytes of a message.
    usable = features if features.flags.writeable and features.flags.c_contiguous else features.copy()
    return torch.from_numpy(usable)


def _check_answer(answer: Combined) -> None:
    """Finite features can still be too large for float32 inside the network, or end in the zero vector."""
    norms = np.linalg.norm(answer.query_vectors, axis=1)
    bad = np.flatnonzero(~(np.abs(norms - 1.0) < 1e-3) | ~np.isfinite(answer.text_weights))
    if bad.size:
        raise NotFiniteError(
            f"row {bad[0]}: the network's query vector has no direction or left the range of float32; "
            "send raw features of the model that the combiner was trained on"
        )
