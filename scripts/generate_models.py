"""Write the tables of docs/models.md from the families that the golden tests build.

Usage: python scripts/generate_models.py [--measure [NAME]...] [--check]

The first table is read from open_clip. The second is measured with `--measure`: each family, or those whose
names hold NAME, with random weights. `--check` compares the first table alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIPVisionCfg, _build_vision_tower
from PIL import Image
from transformers import XLMRobertaConfig, XLMRobertaModel

from embedder_service.model.load import load
from embedder_service.probe import TOKENIZER_TEXTS, probe_images
from embedder_service.settings import EmbedderSettings
from embedder_service.traits import read_traits
from tests.system.model_families import FAMILIES, REPOSITORY, Family, Published

TARGET = Path(__file__).resolve().parent.parent / "docs" / "models.md"
_BATCH, _RUNS = 4, 2
_HEADS = (
    "family", "dimension", "image", "context", "resize", "mean, std", "filter", "activation", "tokenizer",
)  # fmt: skip
# The published depth of the one text tower whose config is not part of open_clip.
_XLM_ROBERTA_BASE = XLMRobertaConfig(
    vocab_size=250_002, hidden_size=768, num_hidden_layers=12, intermediate_size=3072, num_attention_heads=12,
    max_position_embeddings=514, type_vocab_size=1,
)  # fmt: skip


def published_table() -> list[str]:
    """Return the rows that follow from what open_clip publishes."""
    heads = [
        "family",
        "dimension",
        "image",
        "context",
        "resize",
        "mean,_std",
        "filter",
        "activation",
        "tokenizer",
    ]
    rows = [f"| {' | '.join(head.replace('_', ' ') for head in heads)} |"]
    rows.append("|---" * 9 + "|")
    for family in FAMILIES:
        config = open_clip.get_model_config(family.architecture)
        tag = open_clip.get_pretrained_cfg(family.architecture, family.tag)
        traits = read_traits(tag, config.get("quick_gelu") or tag.get("quick_gelu"))
        text = config["text_cfg"]
        rows.append(
            f"| {family.architecture}, `{family.tag}` | {config['embed_dim']} "
            f"| {config['vision_cfg'].get('image_size', 224)} | {text.get('context_length', 77)} "
            f"| {traits.resize_mode} | {_three(traits.mean)}; {_three(traits.std)} | {traits.interpolation} "
            f"| {'QuickGELU' if traits.quick_gelu else 'GELU'} | {text.get('hf_tokenizer_name', 'CLIP')} |"
        )
    return rows


def _three(values: Iterable[float]) -> str:
    parts = [f"{value:.3g}" for value in values]
    return parts[0] if len(set(parts)) == 1 else ", ".join(parts)


def measured_row(family: Family) -> str:
    """Return what this host measures of one family: agreement with open_clip, size and speed."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        difference = _difference(Published(family, Path(folder), patch))
    config = open_clip.get_model_config(family.architecture)
    tower = _image_tower(config)
    images, texts = _weights(tower), _text_weights(config)
    return (
        f"| {family.architecture}, `{family.tag}` | tag, hub, folder, file "
        f"| {f'{difference:.0e}' if difference else '0'} "
        f"| {images / 1e6:.0f} + {texts / 1e6:.0f} | {4 * (images + texts) / 1e6:.0f} "
        f"| {_cpu_ms(tower, int(config['vision_cfg'].get('image_size', 224))):.0f} |"
    )


def _difference(published: Published) -> float:
    """Return the largest difference to open_clip's own features, in all ways in which a model can be had."""
    family, reference = published.family, published.reference
    photos = [Image.fromarray(pixels).resize((300, 410)) for pixels in probe_images(224)[2:]]
    expected = reference.images(photos), reference.texts(TOKENIZER_TEXTS)
    ways: tuple[dict[str, Any], ...] = (
        {"architecture": family.architecture, "pretrained": family.tag},
        {"architecture": f"hf-hub:{REPOSITORY}"},
        {"architecture": f"local-dir:{published.folder}"},
        {
            "architecture": family.architecture,
            "pretrained": str(published.bare),
            **(family.bare or {}),
        },
    )
    found = []
    for way in ways:
        chosen: dict[str, Any] = {
            "weights_cache": published.cache,
            "preprocessing": "clip",
            "runtime": "torch",
        }
        served = load(EmbedderSettings(device="cpu", dtype="float32", **(chosen | way)))
        pixels = np.stack([served.preprocessor(photo) for photo in photos])
        answers = served.model.encode_images(pixels), served.model.encode_texts(TOKENIZER_TEXTS)
        found += [float(np.abs(one - other).max()) for one, other in zip(answers, expected, strict=True)]
    return max(found)


def _image_tower(config: dict[str, Any]) -> torch.nn.Module:
    vision = CLIPVisionCfg(**config["vision_cfg"])
    tower: torch.nn.Module = _build_vision_tower(config["embed_dim"], vision, config.get("quick_gelu", False))
    return tower.eval()


def _text_weights(config: dict[str, Any]) -> int:
    """Return the number of weights of the text tower, without making them."""
    with torch.device("meta"):
        if "hf_model_name" in config["text_cfg"]:
            return _weights(XLMRobertaModel(_XLM_ROBERTA_BASE, add_pooling_layer=False))
        text = open_clip.model.CLIPTextCfg(**config["text_cfg"])
        return _weights(
            open_clip.model._build_text_tower(config["embed_dim"], text, config.get("quick_gelu", False))
        )


def _weights(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _cpu_ms(tower: torch.nn.Module, size: int) -> float:
    """Return CPU milliseconds an image, in float32 on one thread."""
    pixels, times = torch.randn(_BATCH, 3, size, size), []
    with torch.inference_mode():
        tower(pixels[:1])
        for _ in range(_RUNS):
            started = time.process_time()
            tower(pixels)
            times.append(time.process_time() - started)
    return min(times) / _BATCH * 1000


def _replaced(text: str, name: str, rows: Iterable[str]) -> str:
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, rest = text.split(begin)
    return before + begin + "\n".join(rows) + "\n" + end + rest.split(end)[1]


def _rows(text: str, name: str) -> list[str]:
    return text.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- end of {name} -->")[0].split("\n")


def up_to_date() -> bool:
    """Return true where the document's first table is the one that follows from open_clip."""
    return _rows(TARGET.read_text(encoding="utf-8"), "published") == published_table()


def main() -> None:
    """Write or check the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--measure", nargs="*", metavar="NAME", help="families to measure again; all of them")
    parser.add_argument("--check", action="store_true", help="fail where the first table is stale")
    options = parser.parse_args()
    if options.check:
        if not up_to_date():
            raise SystemExit(f"{TARGET} is stale; run: make models-table")
        return
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    torch.set_num_threads(1)
    text = _replaced(TARGET.read_text(encoding="utf-8"), "published", published_table())
    if options.measure is not None:
        head, rule, *rows = _rows(text, "measured")
        known = {row.split("`")[0] + row.split("`")[1]: row for row in rows if "`" in row}
        for family in FAMILIES:
            key = f"| {family.architecture}, {family.tag}"
            if not options.measure or any(name in family.name for name in options.measure):
                known[key] = measured_row(family)
                print(known[key], flush=True)
        order = [f"| {family.architecture}, {family.tag}" for family in FAMILIES]
        text = _replaced(text, "measured", [head, rule, *(known[key] for key in order if key in known)])
    TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
