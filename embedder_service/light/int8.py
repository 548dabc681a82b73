"""Linear layers of a tower in int8: their weights once, their inputs at run time.

Trained CLIPs have a few channels that are far larger than the others, which then share a scale with them that
is too coarse. As SmoothQuant (Xiao et al., ICML 2023) does, such a channel is divided by a number, and the
weights that read it are multiplied by the same number: the product stays as it is, and each of the two is
quantised more finely where it has the larger outliers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from embedder_service.batching.jobs import Features
from service_runtime.openvino_core import core, int8_weights, precision
from service_runtime.openvino_core import opset13 as ops

# Smaller matrices cost more to quantise than to multiply.
_MIN_INT8_WEIGHTS = 4096
# How much of a channel's outliers is moved to the weights, from 0 to 1.
_MOVED = 0.4
_SMALLEST = np.float32(1e-6)


class Linear(StrEnum):
    """Choice of the linear layers that are computed in int8."""

    ALL = "all"
    MLPS = "mlps"


def quantize(model: Any, linear: Linear, ranges: Sequence[Features] | None = None) -> None:
    """Replace the weights of linear layers by int8 times a scale of each output.

    `ranges` are those of `input_ranges` for the same model; without them layers are quantised as they are.
    The last projection stays: its error is not evened out by anything behind it. Convolutions stay too.
    """
    layers = _layers(model)
    known: Sequence[Features | None] = [None] * len(layers) if ranges is None else ranges
    for (node, rows), largest in zip(layers, known, strict=True):
        if rows.size < _MIN_INT8_WEIGHTS or not _is_chosen(linear, *rows.shape):
            continue
        if largest is not None:
            factor = _factors(largest, np.abs(rows).max(axis=0))
            rows = rows * factor
            given = ops.multiply(node.input_value(0), ops.constant(1 / factor))
            node.input(0).replace_source_output(given.output(0))
        replaced = (
            int8_weights(rows, axis=1)
            if _is_transposed(node)
            else int8_weights(np.ascontiguousarray(rows.T), axis=0)
        )
        node.input(1).replace_source_output(replaced.output(0))


def input_ranges(model: Any, rows: Iterable[Sequence[npt.NDArray[Any]]]) -> list[Features]:
    """Return the largest absolute value of each input of each linear layer, float32 (inputs,) for each.

    `rows` are what the model takes, one row at a time. The model gets further outputs.
    """
    layers = _layers(model)
    found = [np.zeros(rows.shape[1], np.float32) for _, rows in layers]
    if not layers:
        return found
    # Layers may read one and the same value.
    inputs = [node.input_value(0) for node, _ in layers]
    read = [(value.get_node().get_name(), value.get_index()) for value in inputs]
    values_read = dict(zip(read, inputs, strict=True))
    first = len(model.outputs)
    places = {key: place for place, key in enumerate(values_read, first)}
    model.add_outputs(list(values_read.values()))
    request = core.compile_model(model, "CPU", precision("float32")).create_infer_request()
    for row in rows:
        answers = request.infer(list(row))
        for key, largest in zip(read, found, strict=True):
            values = np.abs(np.asarray(answers[places[key]], np.float32))
            np.maximum(largest, values.reshape(-1, len(largest)).max(axis=0), out=largest)
    return found


def _factors(inputs: Features, weights: Features) -> Features:
    """Return what inputs are divided by and weights multiplied with; their geometric mean is 1."""
    factor = np.maximum(inputs, _SMALLEST) ** _MOVED / np.maximum(weights, _SMALLEST) ** (1 - _MOVED)
    even = factor / np.exp(np.log(factor).mean())
    return np.asarray(even, np.float32)


def _layers(model: Any) -> list[tuple[Any, npt.NDArray[np.float32]]]:
    """Return the products with weights, and these as (outputs, inputs), without the last one."""
    products = [node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul"]
    weighed = [(node, weight) for node in products if (weight := _weight(node)) is not None]
    return [(node, weight if _is_transposed(node) else weight.T) for node, weight in weighed[:-1]]


def _is_transposed(node: Any) -> bool:
    return bool(node.get_attributes()["transpose_b"])


def _is_chosen(linear: Linear, outputs: int, inputs: int) -> bool:
    # Attention projects to as many, to key and value at once, or to query, key and value.
    return linear is Linear.ALL or outputs not in (inputs, 2 * inputs, 3 * inputs)


def _weight(node: Any) -> npt.NDArray[np.float32] | None:
    source = node.input_value(1).get_node()
    if source.get_type_name() == "Convert":
        source = source.input_value(0).get_node()
    if source.get_type_name() != "Constant" or len(source.get_output_shape(0)) != 2:
        return None
    return np.asarray(source.data, np.float32)
