"""What the shipped CLIP knows, zero-shot, by each runtime, beside the same architecture with random weights.

    python -m benchmarks.garments [--items 1500] [--photos FOLDER] [--json FILE]

Drawn garments are of combinations that were never trained on, at a catalog's size; photos are those that were
kept out of training. OpenVINO reads the model folder, whose weights are float16. The Combiner's table is
printed by `cir compare` (docs/evaluation.md).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from cir.images.decode import Decoder
from embedder_service.loading import load_served
from embedder_service.served import ServedModel
from embedder_service.settings import EmbedderSettings
from scripts.small_clip.measure import labelled, named
from scripts.small_clip.photos import read_photos
from scripts.small_clip.samples import draw

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clothing"
_AT_ONCE = 64
_ROWS = (
    ("shipped", "torch", "float32"),
    ("shipped", "openvino", "float32"),
    ("shipped", "openvino", "int8"),
    ("random:1", "torch", "float32"),
)


def main() -> None:
    """Draw, embed, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--items", type=int, default=1500, help="garments to draw")
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="folder of labelled photos")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    models = {
        f"{weights}, {runtime} {dtype}": held(weights, runtime, dtype) for weights, runtime, dtype in _ROWS
    }
    preprocessor = next(iter(models.values())).preprocessor
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw(
            Path(folder) / "test",
            options.items,
            preprocessor,
            seed=20_261,
            split="test",
            full_size=True,
            processes=os.cpu_count() or 1,
        )
        photos = (
            list(read_photos(options.photos, preprocessor, Decoder(), kept_out=True))
            if (options.photos / "images.csv").is_file()
            else []
        )
        report = {}
        for name, one in models.items():
            report[name] = named(embedded(one, drawn.pixels), drawn.attributes, one.model.encode_texts)
            if photos:
                pixels = np.stack([photo.pixels for photo in photos])
                kinds = [photo.kind for photo in photos]
                report[name]["photos"] = labelled(embedded(one, pixels), kinds, one.model.encode_texts)
    table = Table(
        "weights, runtime", "kind", "colour", "pattern", "all three", f"{len(photos)} photos, 17 labels"
    )
    for row, shares in report.items():
        names = ("kind", "colour", "pattern", "all", "photos")
        table.add_row(row, *(f"{shares[name]:.3f}" if name in shares else "" for name in names))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def held(weights: str, runtime: str, dtype: str) -> ServedModel:
    """The small CLIP with these weights."""
    arguments = ["--architecture", "cir-small", "--pretrained", weights, "--dtype", dtype]
    return load_served(EmbedderSettings.load([*arguments, "--runtime", runtime]))


def embedded(one: ServedModel, pixels: Any) -> Any:
    """Features of uint8 (n, side, side, 3)."""
    parts = [
        one.model.encode_images(np.array(pixels[start : start + _AT_ONCE]))
        for start in range(0, len(pixels), _AT_ONCE)
    ]
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
