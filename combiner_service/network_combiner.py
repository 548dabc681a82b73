"""The Combiner network behind the contract of all combiners: numpy in, numpy out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from combiner_service.combiner import Combined, Combiner, CombinerInfo, Pairs
from combiner_service.errors import CombinerError, NotFiniteError
from combiner_service.features import Float32
from combiner_service.network import CombinerNetwork
from combiner_service.thread_choice import ThreadChoice


class NetworkCombiner(Combiner):
    """A trained network. Its text weight is lambda; a given text weight replaces it.

    Safe to call from several threads at once: evaluation changes nothing in the network.

    Args:
        info: name, dimension and fingerprint.
        network: in evaluation mode, on the device where it is to run.
        threads: how many threads a pass of so many rows gets on the CPU.
    """

    def __init__(
        self, info: CombinerInfo, network: CombinerNetwork, *, threads: ThreadChoice | None = None
    ) -> None:
        super().__init__(info)
        self._network = network
        self._device = network.output_layer.bias.device
        self._threads = threads

    def combine_all(self, calls: Sequence[Pairs]) -> list[Combined | CombinerError]:
        """All calls in one forward pass: it reads the weights once, which is what a small batch costs."""
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
            weights = torch.from_numpy(np.repeat(np.array(given, np.float32), counts)).to(self._device)
        if self._threads and self._device.type == "cpu":
            torch.set_num_threads(self._threads.of_rows(len(image)))
        with torch.inference_mode():
            vectors, used = self._network(
                torch.from_numpy(image).to(self._device), torch.from_numpy(text).to(self._device), weights
            )
            query_vectors, text_weights = vectors.cpu().numpy(), used.cpu().numpy()
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
