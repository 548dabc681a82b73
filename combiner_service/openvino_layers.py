"""Linear layers by OpenVINO: large ones, those with bfloat16 or int8 weights, and those of phi."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from combiner_service.combiner import Float32
from combiner_service.network_spec import WeightType
from service_runtime.openvino_core import core, int8_weights, openvino, precision
from service_runtime.openvino_core import opset13 as ops


class OpenVinoLayers:
    """Linear layers with ReLU, or GELU, between them. (n, in) float32 -> (n, out) float32.

    `layers` are weights, (out, in), and biases. A pass takes at most `threads` threads; others wait for it.
    """

    def __init__(
        self,
        layers: Sequence[tuple[Float32, Float32]],
        weight_type: WeightType,
        threads: int,
        *,
        gelu: bool = False,
    ) -> None:
        given = ops.parameter([-1, layers[0][0].shape[1]], np.float32)
        last = given
        for index, (weight, bias) in enumerate(layers):
            if index:
                last = ops.gelu(last, "erf") if gelu else ops.relu(last)
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
        """Return the last layer's values."""
        # A request holds its answer until the next one, so that it is copied inside the lock.
        with self._lock:
            answer: Float32 = np.array(self._request.infer([np.ascontiguousarray(rows)])[0])
        return answer


def _constant(weight: Float32, weight_type: WeightType) -> openvino.Node:
    """Return the weight as the graph holds it, (out, in)."""
    if weight_type is not WeightType.INT8 or len(weight) == 1:
        return ops.constant(weight)
    return int8_weights(weight, axis=1)
