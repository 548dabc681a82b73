"""A model of two ONNX towers before it is compiled, from whichever layout of a folder it was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedder_service.batching.jobs import Features
from embedder_service.identity import Digests
from embedder_service.light.tokenizer import LightTokenizer
from embedder_service.traits import Traits

#: Where both layouts have their towers.
VISUAL, TEXTUAL = "visual/model.onnx", "textual/model.onnx"


@dataclass(frozen=True, slots=True)
class LightSource:
    """Two towers, a tokenizer, and what is known of them.

    `architecture` and `pretrained` are names for people. `config`, `digests` and `words` are what the
    identity follows from. `expected` are torch's features of the probe in float32; None where nobody wrote
    them down, as in an `is_export` by others.
    """

    folder: Path
    architecture: str
    pretrained: str
    config: Mapping[str, Any]
    digests: Digests
    words: Mapping[str, Any] | None
    dimension: int
    image_size: int
    traits: Traits
    tokenizer: LightTokenizer
    expected: Features | None
    is_export: bool

    @property
    def visual(self) -> Path:
        """File of the image tower."""
        return self.folder / VISUAL

    @property
    def textual(self) -> Path:
        """File of the text tower."""
        return self.folder / TEXTUAL
