"""Weights that lie in the file: the same features, and pages that nobody reads again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder_service.batching.jobs import Features
from embedder_service.light.mapped import map_weights
from embedder_service.light.tower import Compiled, Tower
from embedder_service.loading import SHIPPED
from service_runtime.openvino_core import core, halve_weights

FOLDER = SHIPPED / "cir-small"
SIZE, LENGTH, WIDTH = 112, 48, 64
TYPES = [
    pytest.param(dtype, marks=pytest.mark.skipif(needs not in capabilities, reason="not on this CPU"))
    for capabilities in [core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")]
    for dtype, needs in (("float32", "FP32"), ("bfloat16", "BF16"), ("int8", "INT8"))
]


def resident_bytes(path: Path) -> int:
    """Return the bytes of a file that this process has in memory."""
    pages = Path("/proc/self/smaps").read_text()
    found = re.findall(rf"{re.escape(str(path))}\nSize:.*?\nRss: +(\d+) kB", pages, re.DOTALL)
    return sum(int(kib) << 10 for kib in found)


def tower(name: str, path: Path) -> Tower:
    if name == "visual":
        return Tower(path, takes="pixels", dimension=128, image_size=SIZE)
    return Tower(path, takes="tokens", dimension=128, context=LENGTH, takes_words=True)


def features(compiled: Compiled, name: str, count: int) -> Features:
    random = np.random.default_rng(count)
    if name == "visual":
        mean, std = (np.full((1, 3, 1, 1), value, np.float32) for value in (0.5, 0.3))
        return compiled(random.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8), mean, std)
    tokens = random.integers(1, 49_406, (count, 3 + 5 * count % (LENGTH - 2)))
    places, words = np.zeros((*tokens.shape, 1), np.bool_), np.zeros((count, 1, WIDTH), np.float32)
    return compiled(tokens, places, words)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["visual", "textual"])
@pytest.mark.parametrize("dtype", TYPES)
def test_weights_in_the_file_give_the_same_features_and_are_read_once(
    tmp_path: Path, name: str, dtype: str
) -> None:
    path = tmp_path / "model.onnx"
    content = (FOLDER / name / "model.onnx").read_bytes()
    path.write_bytes(content)
    plain = tower(name, path).prepare(dtype).compile(threads=1)
    mapped = tower(name, path).prepare(dtype, maps=True).compile(threads=1)
    assert np.array_equal(features(mapped, name, 2), features(plain, name, 2))
    mapped.release_memory()
    assert resident_bytes(path) == 0
    # Whatever becomes of the file.
    with path.open("r+b") as file:
        file.write(bytes(len(content)))
    for count in (1, 2, 3, 8, 17):
        assert np.array_equal(features(mapped, name, count), features(plain, name, count))
    assert resident_bytes(path) == 0


def test_matrices_of_layers_are_those_of_the_file() -> None:
    path = FOLDER / "visual" / "model.onnx"
    model = core.read_model(path)
    halve_weights(model)
    weights = {node.get_friendly_name(): node.data for node in model.get_ordered_ops() if is_weight(node)}
    mapped = map_weights(model, path)
    assert resident_bytes(path) > 12_000_000
    after = {node.get_friendly_name(): node.data for node in model.get_ordered_ops() if is_weight(node)}
    assert after.keys() == weights.keys()
    assert all(np.array_equal(after[name], weight) for name, weight in weights.items())
    assert sum(weight.nbytes for weight in after.values()) > 12_000_000
    del model, after
    mapped.release()
    assert resident_bytes(path) == 0


def is_weight(node: Any) -> bool:
    return bool(node.get_type_name() == "Constant" and node.data.ndim > 1)
