"""The Combiner network of the paper, and the same behind the contract of all combiners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from combiner_service.combiner import Combined, Combiner, CombinerInfo, Float32, Pairs
from combiner_service.errors import CombinerError, NotFiniteError
from combiner_service.network_spec import NetworkSizes, sizes_from_shapes
from combiner_service.thread_tuning import ThreadCounts

_DROPOUT = 0.5


class CombinerNetwork(nn.Module):
    """Mixes image and text with a learned weight, and adds a learned vector.

    query = normalise(v + lambda * text + (1 - lambda) * image), where v and lambda, a number in (0, 1)
    for each pair, are computed from the projections of both. Features go in raw (not normalised), both
    into the projections and into the mix.
    """

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        self.sizes = sizes
        d, p, h = sizes.feature_dim, sizes.projection_dim, sizes.hidden_dim
        self.text_projection_layer = nn.Linear(d, p)
        self.image_projection_layer = nn.Linear(d, p)
        self.combiner_layer = nn.Linear(2 * p, h)
        self.output_layer = nn.Linear(h, d)
        # The positions 0 and 3 are part of the published names, so the layers between keep their place.
        self.dynamic_scalar = nn.Sequential(
            nn.Linear(2 * p, h), nn.ReLU(), nn.Dropout(_DROPOUT), nn.Linear(h, 1), nn.Sigmoid()
        )
        self.text_dropout = nn.Dropout(_DROPOUT)
        self.image_dropout = nn.Dropout(_DROPOUT)
        self.combiner_dropout = nn.Dropout(_DROPOUT)

    def forward(
        self, image_features: Tensor, text_features: Tensor, text_weight: Tensor | float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Combine (n, d) image features with (n, d) text features.

        `text_weight`, one for all or (n,), replaces lambda, where it is not NaN; v is the network's own all
        the same. Returns the L2-normalised query vectors, (n, d), and the lambda that was used, (n,).
        """
        text = self.text_dropout(functional.relu(self.text_projection_layer(text_features)))
        image = self.image_dropout(functional.relu(self.image_projection_layer(image_features)))
        both = torch.cat((text, image), dim=-1)
        hidden = self.combiner_dropout(functional.relu(self.combiner_layer(both)))
        if text_weight is None:
            weight = self.dynamic_scalar(both)
        else:
            weight = torch.as_tensor(text_weight, dtype=both.dtype, device=both.device)
            weight = weight.expand(len(both))[:, None]
            own = weight.isnan()
            # Almost half of the network's numbers belong to lambda: they are not read for nothing.
            if bool(own.any()):
                weight = torch.where(own, self.dynamic_scalar(both), weight)
        mixed = self.output_layer(hidden) + weight * text_features + (1 - weight) * image_features
        return functional.normalize(mixed, dim=-1), weight.squeeze(-1)

    @classmethod
    def from_weights(cls, weights: Mapping[str, Tensor]) -> CombinerNetwork:
        """Build a network on these float32 tensors, in evaluation mode.

        Raises:
            InvalidCheckpointError: The tensors are not those of a Combiner.
        """
        sizes = sizes_from_shapes({name: tuple(tensor.shape) for name, tensor in weights.items()})
        # On the meta device nothing is allocated or initialised before the weights take their place.
        with torch.device("meta"):
            network = cls(sizes)
        network.load_state_dict(dict(weights), assign=True)
        return network.eval().requires_grad_(False)


class NetworkCombiner(Combiner):
    """A trained network. Its text weight is lambda; a given text weight replaces it.

    Safe to call from several threads at once: evaluation changes nothing in the network. `network` is in
    evaluation mode, on the device where it is to run; `threads` are those of a pass on the CPU by its rows.
    """

    def __init__(
        self, info: CombinerInfo, network: CombinerNetwork, *, threads: ThreadCounts | None = None
    ) -> None:
        super().__init__(info)
        self._network = network
        self._device = network.output_layer.bias.device
        self._threads = threads

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
