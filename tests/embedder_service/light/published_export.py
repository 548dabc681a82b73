"""A folder as public ONNX exports of open_clip's models have it, made from the small model of the tests."""

from __future__ import annotations

import io
import json
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import open_clip
import torch

from embedder_service.light.tokenizer import clip_vocabulary
from tests.embedder_service.small_config import CONFIG
from tests.embedder_service.small_model import load_small

PIXELS = {
    "size": [32, 32],
    "mode": "RGB",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "interpolation": "bilinear",
    "resize_mode": "squash",
    "fill_color": 0,
}


class _Unit(torch.nn.Module):
    """A tower whose features have length 1, as exports for search alone have."""

    def __init__(self, module: Any, tower: str) -> None:
        super().__init__()
        self.model, self.tower = module, tower

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = getattr(self.model, f"encode_{self.tower}")(rows, normalize=True)
        return features


def write_tower(
    module: torch.nn.Module, rows: torch.Tensor, path: Path, *, name: str, external: bool = False
) -> None:
    """Export a module that takes as many rows as these, and no other number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    said = io.StringIO()
    with warnings.catch_warnings(), redirect_stdout(said), redirect_stderr(said), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (rows,),
            path,
            input_names=[name],
            output_names=["embedding"],
            opset_version=18,
            dynamo=True,
            external_data=external,
            verbose=False,
        )


def write_published(
    folder: Path,
    scratch: Path,
    *,
    text_cfg: dict[str, Any] | None = None,
    tokenizer: Path | None = None,
    rows: int = 1,
    external: bool = False,
) -> Any:
    """Write the layout into a folder; return the module that it was made from.

    `tokenizer` is a folder with the files of one of Hugging Face.
    """
    loaded = load_small(scratch, text_cfg=text_cfg or CONFIG["text_cfg"])
    context = loaded.config["text_cfg"]["context_length"]
    write_tower(
        _Unit(loaded.module, "image"),
        torch.randn(rows, 3, 32, 32),
        folder / "visual" / "model.onnx",
        name="image",
        external=external,
    )
    write_tower(
        _Unit(loaded.module, "text"),
        torch.ones(rows, context, dtype=torch.int32),
        folder / "textual" / "model.onnx",
        name="text",
    )
    (folder / "config.json").write_text(json.dumps(loaded.config))
    (folder / "visual" / "preprocess_cfg.json").write_text(json.dumps(PIXELS))
    if tokenizer is None:
        clip = open_clip.SimpleTokenizer()
        merges = [pair for pair, _ in sorted(clip.bpe_ranks.items(), key=lambda item: item[1])]
        vocabulary = clip_vocabulary(clip.encoder, merges).to_str()
        # As Hugging Face spells CLIP's marks.
        spelled = vocabulary.replace("<start_of_text>", "<|startoftext|>")
        spelled = spelled.replace("<end_of_text>", "<|endoftext|>")
        (folder / "textual" / "tokenizer.json").write_text(spelled)
    else:
        for file in tokenizer.iterdir():
            (folder / "textual" / file.name).write_bytes(file.read_bytes())
    return loaded.module
