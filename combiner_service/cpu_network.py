"""The Combiner network on a CPU, by OpenVINO: without torch, with float32, bfloat16 or int8 weights."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from combiner_service.combiner import Float32, Float64, unit_rows
from combiner_service.network_spec import NetworkSizes, WeightType, phi_sizes, sizes_from_shapes
from service_runtime.openvino_core import core, int8_weights, openvino, precision
from service_runtime.openvino_core import opset13 as ops

Layers = Callable[[Float32], Float32]


_ONE = np.float32(1)


class CpuNetwork:
    """Mixes image and text with a learned weight, and adds a learned vector.

    query = normalise(v + lambda * text + (1 - lambda) * image), where v and lambda, a number in (0, 1)
    for each pair, are computed from the projections of both. Features go in raw (not normalised), both
    into the projections and into the mix.

    `weights` are float32 arrays under the published names; they are not needed any more afterwards. With
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

        def layers(*names: str) -> Layers:
            pairs = [(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in names]
            return _Layers(pairs, weight_type, threads)

        self._project_text = layers("text_projection_layer")
        self._project_image = layers("image_projection_layer")
        self._vector = layers("combiner_layer", "output_layer")
        self._scalar = layers("dynamic_scalar.0", "dynamic_scalar.3")

    def __call__(self, image: Float32, text: Float32) -> tuple[Float32, Float32]:
        """Combine row by row; see `NetworkRuntime`."""
        both = np.concatenate([self._project_text(text), self._project_image(image)], axis=1)
        np.maximum(both, 0, out=both)
        query = self._vector(both)
        # Features too large for float32 are the caller's, and found in the answer.
        with np.errstate(over="ignore", invalid="ignore"):
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
        self._layers = _Layers(layers, weight_type, threads, lambda node: ops.gelu(node, "erf"))

    def __call__(self, features: Float32) -> Float32:
        """Return word embeddings, (n, token width), of features, (n, d)."""
        # Features too large for float32 are the caller's, and found in the answer.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._layers(features)


class _Layers:
    """Linear layers with ReLU, or another function, between them. (n, in) float32 -> (n, out) float32."""

    def __init__(
        self,
        layers: Sequence[tuple[Float32, Float32]],
        weight_type: WeightType,
        threads: int,
        between: Callable[[openvino.Node], openvino.Node] = ops.relu,
    ) -> None:
        given = ops.parameter([-1, layers[0][0].shape[1]], np.float32)
        last = given
        for index, (weight, bias) in enumerate(layers):
            last = between(last) if index else last
            last = ops.add(ops.matmul(last, _constant(weight, weight_type), False, True), ops.constant(bias))
        compiled = core.compile_model(
            openvino.Model([last], [given], "layers"),
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads,
                **precision(weight_type),
            },
        )
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def __call__(self, rows: Float32) -> Float32:
        # A request holds its answer until the next one, so that it is copied inside the lock.
        with self._lock:
            answer: Float32 = np.array(self._request.infer([np.ascontiguousarray(rows)])[0])
        return answer


def _constant(weight: Float32, weight_type: WeightType) -> openvino.Node:
    """Return the weight as the graph holds it, (out, in)."""
    if weight_type is not WeightType.INT8 or len(weight) == 1:
        return ops.constant(weight)
    return int8_weights(weight, axis=1)


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
