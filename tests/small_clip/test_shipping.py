"""Steps after the training of the small CLIP: equal lengths, and the triplets for the Combiner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from scripts.small_clip.finish import IMAGE_LENGTH, TEXT_LENGTH, scale_images
from scripts.small_clip.triplets import LabelledPhoto, garment_rows, photo_triplets

pytestmark = pytest.mark.torch


def test_the_last_layer_of_images_is_scaled_and_nothing_else() -> None:
    names = ("visual.attnpool.c_proj.weight", "visual.attnpool.c_proj.bias", "text_projection")
    weights = {name: torch.full((2,), 3.0, dtype=torch.float16) for name in names}
    scaled = scale_images(weights)
    assert torch.equal(scaled["text_projection"], weights["text_projection"])
    for name in names[:2]:
        expected = torch.tensor(3.0 * TEXT_LENGTH / IMAGE_LENGTH).half()
        assert torch.equal(scaled[name], expected.expand(2))


def test_changes_of_photos_name_every_photo_that_is_right() -> None:
    photos = [
        LabelledPhoto(f"{kind}-{colour}-{n}", kind, colour)
        for kind in ("dress", "shoe")
        for colour in ("red", "blue")
        for n in range(2)
    ]
    rows = list(photo_triplets(photos, 40, seed=1))
    assert len(rows) == 40
    assert len({(row["reference"], row["text"]) for row in rows}) == 40
    for row in rows:
        kind, colour, _ = row["targets"][0].split("-")
        assert row["targets"] == [f"{kind}-{colour}-{n}" for n in range(2)]
        before = row["reference"].split("-")
        assert (kind, colour) != tuple(before[:2])
        assert kind in row["text"] or kind == before[0]
        assert colour in row["text"] or colour == before[1]


def test_queries_of_a_split_are_taken_and_images_of_vals_gallery(tmp_path: Path) -> None:
    rows = [
        {"image": "a", "split": "train"},
        {"image": "a", "split": "val"},
        {"reference": "a", "split": "train"},
        {"reference": "a", "split": "val"},
        {"reference": "a", "split": "test"},
    ]
    (tmp_path / "triplets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(garment_rows(tmp_path, ("train", "val"))) == rows[1:4]
    assert list(garment_rows(tmp_path, ("train",))) == [rows[2]]
