"""The configuration of a CLIP small enough for tests, in open_clip's own layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def write_config(folder: Path, **changes: Any) -> Path:
    """Write the architecture's JSON file, with changes at its top level."""
    path = folder / "small.json"
    path.write_text(json.dumps(CONFIG | changes))
    return path
