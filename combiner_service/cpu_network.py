"""The Combiner network on a CPU: without torch, with float32, bfloat16 or int8 weights.

A small one in float32 is a few products that numpy computes as fast; then OpenVINO, which takes more memory
than such a network, is not loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from combiner_service.combiner import Float32, Float64, unit_rows
from combiner_service.network_spec import NetworkSizes, WeightType, phi_sizes, sizes_from_shapes

Layers = Callable[[Float32], Float32]

#: Bytes of float32 weights up to which numpy computes them: they stay in the CPU's caches.
SMALL_BYTES = 8 << 20
# Rows that numpy multiplies one by one, and the fewest for which another thread pays.
_FEW_ROWS, _ROWS_OF_A_THREAD = 8, 32
_ONE = np.float32(1)


class CpuNetwork:
    """Mixes image and text with a learned weight, and adds a learned vector.

    query = normalise(v + lambda * text + (1 - lambda) * image), where v and lambda, a number in (0, 1)
    for each pair, are computed from the projections of both. Features go in raw (not normalised), both
    into the projections and into the mix.

    `weights` are float32 arrays under the published names, which must not change afterwards. With
    bfloat16 products are rounded on CPUs that multiply it in hardware, and exact on others. With int8 each
    row of a weight is whole numbers from -127 to 127 times a scale of its own. The last layer of lambda and
    the mix stay float32. A pass takes at most `threads` threads.

    Raises:
        InvalidCheckpointError: The arrays are not those of a Combiner.
    """

    def __init__(
        self,
        weights: Mapping[str, Float32],
        *,
        weight_type: WeightType = WeightType.FLOAT32,
        threads: int = 1,
    ) -> None:
        self.sizes: NetworkSizes = sizes_from_shapes({name: array.shape for name, array in weights.items()})
        self.weight_type = weight_type

        by_numpy = (
            weight_type is WeightType.FLOAT32
            and sum(array.nbytes for array in weights.values()) <= SMALL_BYTES
        )
        self._threads = threads if by_numpy else 1
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="network") if self._threads > 1 else None

        def layers(*names: str) -> Layers:
            pairs = [(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in names]
            return _NumpyLayers(pairs) if by_numpy else _by_openvino(pairs, weight_type, threads)

        self._project_text = layers("text_projection_layer")
        self._project_image = layers("image_projection_layer")
        self._vector = layers("combiner_layer", "output_layer")
        self._scalar = layers("dynamic_scalar.0", "dynamic_scalar.3")

    def __call__(self, image: Float32, text: Float32) -> tuple[Float32, Float32]:
        """Combine row by row; see `NetworkRuntime`."""
        parts = min(self._threads, len(image) // _ROWS_OF_A_THREAD)
        if self._pool is None or parts < 2:
            return self._combine(image, text)
        answers = self._pool.map(self._combine, np.array_split(image, parts), np.array_split(text, parts))
        query, weight = zip(*answers, strict=True)
        return np.concatenate(query), np.concatenate(weight)

    def _combine(self, image: Float32, text: Float32) -> tuple[Float32, Float32]:
        # Features too large for float32 are the caller's, and found in the answer.
        with np.errstate(over="ignore", invalid="ignore"):
            both = np.concatenate([self._project_text(text), self._project_image(image)], axis=1)
            np.maximum(both, 0, out=both)
            query = self._vector(both)
            weight = _ONE / (_ONE + np.exp(-self._scalar(both)))
            query = query + weight * text + (_ONE - weight) * image
            # As torch normalises: what has no length stays as it is.
            query /= np.maximum(np.linalg.norm(query, axis=1, keepdims=True), np.float32(1e-12))
        return query, weight[:, 0]


class CpuPhi:
    """The network phi of an inversion: three linear layers with GELU between them.

    `weights` are float32 arrays under the published names; weight types and threads as for `CpuNetwork`.

    Raises:
        InvalidCheckpointError: The arrays are not those of phi.
    """

    def __init__(
        self,
        weights: Mapping[str, Float32],
        *,
        weight_type: WeightType = WeightType.FLOAT32,
        threads: int = 1,
    ) -> None:
        self.sizes = phi_sizes({name: array.shape for name, array in weights.items()})
        layers = [(weights[f"layers.{n}.weight"], weights[f"layers.{n}.bias"]) for n in (0, 3, 6)]
        self._layers = _by_openvino(layers, weight_type, threads, gelu=True)

    def __call__(self, features: Float32) -> Float32:
        """Return word embeddings, (n, token width), of features, (n, d)."""
        # Features too large for float32 are the caller's, and found in the answer.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._layers(features)


def _by_openvino(
    layers: Sequence[tuple[Float32, Float32]], weight_type: WeightType, threads: int, *, gelu: bool = False
) -> Layers:
    # Imported here: where numpy computes everything there is no other runtime.
    from combiner_service.openvino_layers import OpenVinoLayers

    return OpenVinoLayers(layers, weight_type, threads, gelu=gelu)


class _NumpyLayers:
    """Linear layers with ReLU between them, float32, by numpy. Any thread may call it."""

    def __init__(self, layers: Sequence[tuple[Float32, Float32]]) -> None:
        self._layers = [(np.ascontiguousarray(weight), bias) for weight, bias in layers]

    def __call__(self, rows: Float32) -> Float32:
        for index, (weight, bias) in enumerate(self._layers):
            if index:
                np.maximum(rows, 0, out=rows)
            rows = _product(rows, weight)
            rows += bias
        return rows


def _product(rows: Float32, weight: Float32) -> Float32:
    """Return (n, out) of (n, in) and a weight, (out, in)."""
    # For products of matrices the weight is copied in another order first, which few rows do not repay.
    if 1 < len(rows) <= _FEW_ROWS:
        product: Float32 = np.matmul(rows[:, None], weight.T)[:, 0]
    else:
        product = np.matmul(rows, weight.T)
    return product


_PROBE_ROWS = 96
Network = TypeVar("Network", CpuNetwork, CpuPhi)


def smallest_cosine(exact: Network, other: Network) -> float:
    """Return the smallest cosine between the answers of two networks for seeded raw features.

    Rows of about the length that CLIP's features have (10); one alone, three together, the rest at once,
    for small and large batches take different ways. NaN where an answer is not finite.
    """
    dimension = exact.sizes.feature_dim
    generator = np.random.default_rng(20220619)
    rows = generator.standard_normal((2, _PROBE_ROWS, dimension)) * (10 / dimension**0.5)
    image, text = rows.astype(np.float32)

    def answers(network: CpuNetwork | CpuPhi, part: slice) -> Float64:
        if isinstance(network, CpuPhi):
            vectors = network(image[part]).astype(np.float64)
            return unit_rows(vectors)
        return network(image[part], text[part])[0].astype(np.float64)

    wanted = answers(exact, slice(None))
    parts = (slice(0, 1), slice(1, 4), slice(4, _PROBE_ROWS))
    got = np.concatenate([answers(other, part) for part in parts])
    return float(np.einsum("ij,ij->i", wanted, got).min())
