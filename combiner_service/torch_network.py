"""The Combiner network of the paper, and phi, in torch: for training, and for serving on a GPU."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from combiner_service.combiner import Float32
from combiner_service.network_spec import NetworkSizes, PhiSizes, phi_sizes, sizes_from_shapes

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

    def forward(self, image_features: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor]:
        """Combine (n, d) image features with (n, d) text features.

        Returns the L2-normalised query vectors, (n, d), and lambda, (n,).
        """
        text = self.text_dropout(functional.relu(self.text_projection_layer(text_features)))
        image = self.image_dropout(functional.relu(self.image_projection_layer(image_features)))
        both = torch.cat((text, image), dim=-1)
        hidden = self.combiner_dropout(functional.relu(self.combiner_layer(both)))
        weight = self.dynamic_scalar(both)
        mixed = self.output_layer(hidden) + weight * text_features + (1 - weight) * image_features
        return functional.normalize(mixed, dim=-1), weight.squeeze(-1)

    @classmethod
    def from_weights(cls, weights: Mapping[str, Float32]) -> CombinerNetwork:
        """Build a network on these float32 arrays, in evaluation mode.

        Raises:
            InvalidCheckpointError: The arrays are not those of a Combiner.
        """
        sizes = sizes_from_shapes({name: array.shape for name, array in weights.items()})
        # On the meta device nothing is allocated or initialised before the weights take their place.
        with torch.device("meta"):
            network = cls(sizes)
        network.load_state_dict({name: torch.from_numpy(each) for name, each in weights.items()}, assign=True)
        return network.eval().requires_grad_(False)


class TorchRuntime:
    """A network in evaluation mode, on the device where it is."""

    def __init__(self, network: CombinerNetwork) -> None:
        self._network = network

    def __call__(self, image: Float32, text: Float32) -> tuple[Float32, Float32]:
        """Combine row by row; see `NetworkRuntime`."""
        device = self._network.output_layer.bias.device
        with torch.inference_mode():
            vectors, used = self._network(*(torch.from_numpy(each).to(device) for each in (image, text)))
            return vectors.cpu().numpy(), used.cpu().numpy()


class Phi(nn.Module):
    """The network phi of SEARLE and LinCIR: an image's features to a word embedding of the text tower."""

    def __init__(self, sizes: PhiSizes, dropout: float = 0.5) -> None:
        super().__init__()
        self.sizes = sizes
        d, h, w = sizes.feature_dim, sizes.hidden_dim, sizes.token_width
        # The positions are part of the published names.
        self.layers = nn.Sequential(
            nn.Linear(d, h), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(h, h), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(h, w),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """Return word embeddings (n, token width) of features (n, d)."""
        words: Tensor = self.layers(features)
        return words

    @classmethod
    def from_weights(cls, weights: Mapping[str, Float32]) -> Phi:
        """Build the network on these float32 arrays, in evaluation mode.

        Raises:
            InvalidCheckpointError: The arrays are not those of phi.
        """
        sizes = phi_sizes({name: array.shape for name, array in weights.items()})
        with torch.device("meta"):
            network = cls(sizes)
        network.load_state_dict({name: torch.from_numpy(each) for name, each in weights.items()}, assign=True)
        return network.eval().requires_grad_(False)


class TorchPhi:
    """Phi in evaluation mode, on the device where it is; see `inversion.PhiRuntime`."""

    def __init__(self, network: Phi) -> None:
        self._network = network

    def __call__(self, features: Float32) -> Float32:
        """Return word embeddings row by row."""
        device = next(self._network.parameters()).device
        with torch.inference_mode():
            words: Float32 = self._network(torch.tensor(features, device=device)).cpu().numpy()
        return words
