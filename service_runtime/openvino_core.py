"""OpenVINO as every service takes it: one core for the process, and no word to anybody.

Imported as it comes, OpenVINO starts a process that reports the import to its makers over the network.
Without the package that does so it goes on silently; nothing else may import `openvino`. Nor are its
converters of other models loaded, which bring TensorFlow's reader along: 5 MB of a process.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

# Python then answers its import with ImportError, which OpenVINO takes for "not installed".
for _name in ("openvino_telemetry", "openvino.tools.ovc"):
    sys.modules[_name] = None  # type: ignore[assignment]

import openvino  # noqa: E402
from openvino import opset13  # noqa: E402
from openvino._offline_transformations import compress_model_transformation  # noqa: E402
from openvino.passes import ConstantFolding, Manager  # noqa: E402

core = openvino.Core()

__all__ = ["core", "halve_weights", "int8_weights", "openvino", "opset13", "precision"]

_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}
# Values of an input row that share one scale in a product in int8.
_INT8_GROUP = 128


def precision(dtype: str) -> dict[str, Any]:
    """Return the settings of a model that is compiled to compute in float32, bfloat16, float16 or int8."""
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[dtype],
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": _INT8_GROUP if dtype == "int8" else 0,
    }


def halve_weights(model: Any) -> None:
    """Keep the float32 weights of a model as float16, for one that is computed in 16 bits anyway.

    A compiled model holds what it was made from beside what it computes with.
    """
    folding = Manager()
    folding.register_pass(ConstantFolding())
    folding.run_passes(model)
    compress_model_transformation(model)


def int8_weights(weight: npt.NDArray[np.float32], *, axis: int) -> openvino.Node:
    """Return a weight as whole numbers from -127 to 127 times a scale for each output.

    `weight` is a matrix; `axis` is that of its inputs.
    """
    scale = np.maximum(np.abs(weight).max(axis=axis, keepdims=True), np.float32(1e-30)) / np.float32(127)
    whole = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
    return opset13.multiply(opset13.convert(opset13.constant(whole), np.float32), opset13.constant(scale))
