"""The models that ship: small, for each other, and right on what they have not seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import combiner_service
import embedder_service
from cir.images.decode import Decoder
from combiner_service.checkpoint import inspect_checkpoint
from combiner_service.checkpoint_directory import CheckpointDirectory
from combiner_service.registry import Registry
from combiner_service.settings import CombinerSettings
from embedder_service.model.load import load
from embedder_service.served import ServedModel
from embedder_service.settings import EmbedderSettings
from garments.catalog import make_catalog
from scripts.small_clip.finish import SYNONYMS
from scripts.small_clip.measure import named
from tests.combiner_service.examples import combiner_of

pytestmark = pytest.mark.torch

CLIP = Path(embedder_service.__file__).parent / "shipped" / "cir-small.safetensors"
COMBINER = Path(combiner_service.__file__).parent / "shipped" / "garments.safetensors"
SIZE = 240


@pytest.fixture(scope="module")
def held() -> ServedModel:
    return load(
        EmbedderSettings.load(
            ["--architecture", "cir-small", "--pretrained", "shipped", "--dtype", "float32"]
        )
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shipped") / "garments"
    # Another seed than any that was trained on.
    make_catalog(folder, size=SIZE, seed=4711, image_size=(192, 256))
    return folder


@pytest.fixture(scope="module")
def pictures(held: ServedModel, folder: Path) -> dict[str, np.ndarray]:
    rows = [json.loads(line) for line in (folder / "garments.jsonl").read_text().splitlines()]
    pixels = np.stack([held.preprocessor(Decoder()((folder / row["image"]).read_bytes())) for row in rows])
    return dict(zip([row["image"] for row in rows], held.model.encode_images(pixels), strict=True))


def test_they_are_small_and_for_each_other(held: ServedModel) -> None:
    assert CLIP.stat().st_size + COMBINER.stat().st_size <= 24_000_000
    summary = inspect_checkpoint(COMBINER)
    assert summary.metadata.model_fingerprint == held.info.fingerprint
    assert summary.sizes.feature_dim == held.info.dimension
    assert held.info.pretrained == "shipped"
    for path in (CLIP, COMBINER):
        assert path.with_suffix(".md").is_file()
    # Part of it was trained by others, whose notice goes where it goes.
    assert "ML Illustrated" in CLIP.with_suffix(".NOTICE.txt").read_text()


def test_bfloat16_is_close_enough_to_be_served() -> None:
    """Where a head is at its most sensitive on black, far from every photo, the probe refuses the dtype."""
    held = load(
        EmbedderSettings.load(
            ["--architecture", "cir-small", "--pretrained", "shipped", "--dtype", "bfloat16"]
        )
    )
    assert held.info.dtype == "bfloat16"
    assert held.info.dtype_cosine > 0.999


def test_the_settings_find_them_by_one_word() -> None:
    settings = CombinerSettings.load(["--checkpoint-dir", "shipped"])
    assert settings.checkpoint_dir == COMBINER.parent


@pytest.mark.slow
def test_the_clip_names_what_it_sees(
    held: ServedModel, folder: Path, pictures: dict[str, np.ndarray]
) -> None:
    rows = [json.loads(line) for line in (folder / "garments.jsonl").read_text().splitlines()]
    unseen = [row for row in rows if row["split"] == "test"]
    assert len(unseen) > 30
    shares = named(
        np.stack([pictures[row["image"]] for row in unseen]),
        unseen,
        lambda texts: held.model.encode_texts(texts),
    )
    assert shares["colour"] > 0.9
    assert shares["pattern"] > 0.9
    assert shares["kind"] > 0.85


def test_the_combiner_finds_what_was_asked_for_and_others_do_not(
    held: ServedModel, folder: Path, pictures: dict[str, np.ndarray]
) -> None:
    network = combiner_of(Registry(CheckpointDirectory(COMBINER.parent, {})), "combiner/garments")
    rows = [json.loads(line) for line in (folder / "triplets.jsonl").read_text().splitlines()]
    asked = [row for row in rows if row["split"] == "test" and "reference" in row]
    assert len(asked) > 50
    gallery = list(pictures)
    units = np.stack([pictures[name] / np.linalg.norm(pictures[name]) for name in gallery])
    images = np.stack([pictures[row["reference"]] for row in asked])
    texts = held.model.encode_texts([row["text"] for row in asked])

    def found(queries: np.ndarray) -> float:
        scores = queries @ units.T
        for row, one in enumerate(asked):
            scores[row, gallery.index(one["reference"])] = -2
        best = scores.argmax(axis=1)
        return float(
            np.mean([gallery[place] in one["targets"] for place, one in zip(best, asked, strict=True)])
        )

    by_network = found(network.combine(images, texts).query_vectors)
    simple = Registry()
    others = {
        name: found(combiner_of(simple, name).combine(images, texts).query_vectors)
        for name in ("sum", "slerp", "image", "text")
    }
    assert by_network > 0.9
    assert by_network > max(others.values()) + 0.05, others


def test_images_are_as_long_as_texts_and_lambda_tells_queries_apart(
    held: ServedModel, folder: Path, pictures: dict[str, np.ndarray]
) -> None:
    """Where images are five times as long, lambda is 1 for every query, and a text weight does nothing."""
    rows = [json.loads(line) for line in (folder / "triplets.jsonl").read_text().splitlines()]
    asked = [row for row in rows if row["split"] == "test" and "reference" in row]
    images = np.stack([pictures[row["reference"]] for row in asked])
    texts = held.model.encode_texts([row["text"] for row in asked])
    lengths = [np.linalg.norm(features, axis=1).mean() for features in (images, texts)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.15)
    network = combiner_of(Registry(CheckpointDirectory(COMBINER.parent, {})), "combiner/garments")
    weights = network.combine(images, texts).text_weights
    assert 0.4 < weights.min() < weights.mean() < weights.max() < 0.95
    assert weights.std() > 0.04


def test_other_words_are_read_as_the_kind_that_they_are_taken_for(held: ServedModel) -> None:
    for kind, words in SYNONYMS.items():
        known = held.model.encode_texts([f"a photo of red {kind}"])[0]
        for word in words:
            new = held.model.encode_texts([f"a photo of red {word}"])[0]
            cosine = new @ known / np.linalg.norm(new) / np.linalg.norm(known)
            assert cosine > 0.97, (kind, word, cosine)
