"""Weights of layers left in the file that they were read from.

A compiled tower keeps what it was made from beside what it computes with. In bfloat16 that is each matrix in
the order that its product wants, and the former is not read again (test_mapped.py holds this):
those pages need not stay in memory, and whatever becomes of the file changes no answer.
"""

from __future__ import annotations

import mmap
from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from embedder_service.light.onnx_file import map_tensors
from service_runtime.openvino_core import openvino

# Smaller ones are not worth a look.
_SMALLEST_BYTES = 1 << 16
# Bytes by which a weight is looked up: of many layers of one size each is compared with one alone.
_BEGINNING = 256
_LAYERS = ("MatMul", "Convolution")


class MappedWeights:
    """Weights of a model that lie in a file; they go with the last of those who use them."""

    def __init__(self, maps: set[mmap.mmap]) -> None:
        self._maps = maps

    def release(self) -> None:
        """Give back the pages that were read; who reads them again gets them from the file."""
        for each in self._maps:
            if hasattr(mmap, "MADV_DONTNEED"):
                each.madvise(mmap.MADV_DONTNEED)


def map_weights(model: Any, path: Path) -> MappedWeights:
    """Take the weights of a model's layers from the file where it holds the same bytes; others stay."""
    parts: defaultdict[bytes, list[memoryview]] = defaultdict(list)
    for part in map_tensors(path):
        if part.nbytes >= _SMALLEST_BYTES:
            parts[bytes(part[:_BEGINNING])].append(part)
    maps: set[mmap.mmap] = set()
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or not _is_of_a_layer(node):
            continue
        weight: npt.NDArray[Any] = node.data
        if weight.nbytes < _SMALLEST_BYTES or weight.dtype not in (np.float16, np.float32):
            continue
        held = np.ascontiguousarray(weight).reshape(-1).view(np.uint8)
        alike = parts[held[:_BEGINNING].tobytes()]
        found = next((part for part in alike if np.array_equal(np.frombuffer(part, np.uint8), held)), None)
        if found is None:
            continue
        values = np.frombuffer(found, weight.dtype).reshape(weight.shape)
        mapped = openvino.op.Constant(values, shared_memory=True)
        # numpy has no bfloat16, and gives it as another type.
        if mapped.get_element_type() != node.get_element_type():
            continue
        mapped.set_friendly_name(node.get_friendly_name())
        for reader in node.output(0).get_target_inputs():
            reader.replace_source_output(mapped.output(0))
        maps.add(cast("mmap.mmap", found.obj))
    return MappedWeights(maps)


def _is_of_a_layer(constant: Any) -> bool:
    """Return true where only layers read a constant, which may be widened in between."""
    readers = [target.get_node() for target in constant.output(0).get_target_inputs()]
    if [node.get_type_name() for node in readers] == ["Convert"]:
        readers = [target.get_node() for target in readers[0].output(0).get_target_inputs()]
    return bool(readers) and all(node.get_type_name() in _LAYERS for node in readers)
