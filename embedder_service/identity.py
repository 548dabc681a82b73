"""The fingerprint of a model: a hash over everything that its features depend on, and nothing else.

It does not know the runtime: the same weights with the same preprocessing are the same model, by whatever
they are computed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from embedder_service.images.preprocess import Interpolation, Preprocessor, ResizeMode

# To be increased when the same settings give other features than before.
_SCHEME = 1
# Names in an architecture that say where words come from; what they do is hashed instead.
_NAMED = frozenset({"hf_tokenizer_name", "hf_model_name", "hf_model_pretrained"})

#: Name and digest of each weight, sorted by name.
Digests = Sequence[tuple[str, str]]


def fingerprint(
    config: Mapping[str, Any],
    digests: Digests,
    preprocessor: Preprocessor,
    mean: Sequence[float],
    std: Sequence[float],
    words: Mapping[str, Any] | None = None,
) -> str:
    """Return "clip-" and 32 hexadecimal digits.

    `words` says what a tokenizer and a text tower of Hugging Face do, which lie in files that a config only
    names. Device, dtype at run time and threads do not matter.
    """
    identity: dict[str, Any] = {
        "scheme": _SCHEME,
        "architecture": config,
        "weights": [list(pair) for pair in digests],
        "preprocessing": preprocessor.mode.value,
        "target_ratio": preprocessor.padding_ratio,
        "image_size": preprocessor.size,
        "mean": [float(value) for value in mean],
        "std": [float(value) for value in std],
    }
    # What every model had before there was a choice is not written: such a model keeps its identity.
    if preprocessor.interpolation is not Interpolation.BICUBIC:
        identity["interpolation"] = preprocessor.interpolation.value
    if preprocessor.resize_mode is not ResizeMode.SHORTEST:
        identity["resize_mode"] = preprocessor.resize_mode.value
    if preprocessor.resize_mode is ResizeMode.LONGEST:
        identity["fill"] = preprocessor.fill
    if words:
        text_cfg = {key: value for key, value in config["text_cfg"].items() if key not in _NAMED}
        identity |= {"architecture": {**config, "text_cfg": text_cfg}, "words": dict(words)}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return f"clip-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def weight_digest(values: npt.NDArray[np.float32]) -> str:
    """Return the digest of a weight: of its shape and its float32 bytes."""
    digest = hashlib.sha256(repr(tuple(values.shape)).encode())
    digest.update(np.ascontiguousarray(values, "<f4").reshape(-1).data)
    return digest.hexdigest()
