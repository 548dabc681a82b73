from pathlib import Path

import numpy as np
from PIL import Image

from combiner_training.plots import plot_learning_curve, plot_text_weights


def test_plots_are_images_that_show_something(tmp_path: Path) -> None:
    entries = [
        {"epoch": 1, "loss": 3.0},
        {"epoch": 2, "loss": 2.0, "recall@10": 0.3},
        {"epoch": 3, "loss": 1.0},
    ]
    plot_learning_curve(tmp_path / "curve.png", entries, "a title")
    plot_text_weights(tmp_path / "weights.png", np.linspace(0.2, 0.9, 100, dtype=np.float32), "a title")
    for name in ("curve.png", "weights.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.format == "PNG"
            # More than paper and ink.
            colours = picture.convert("RGB").resize((120, 80)).getcolors(120 * 80)
            assert colours is not None
            assert len(colours) > 3
