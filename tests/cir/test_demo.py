"""The drawn catalog: `demo.drawing`, `demo.catalog` and `demo.queries`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cir.demo.catalog import garments, write_catalog
from cir.demo.drawing import COLOURS, KINDS, PATTERNS, SIZE, draw_garment
from cir.demo.queries import demo_queries


@pytest.mark.parametrize("kind", KINDS)
def test_a_garment_has_its_colour_on_a_light_ground(kind: str) -> None:
    pixels = np.asarray(draw_garment(kind, "blue", "plain", seed=5)).astype(int)
    assert pixels.shape == (SIZE, SIZE, 3)
    blue = np.abs(pixels - COLOURS["blue"]).max(axis=2) < 30
    assert 0.05 < blue.mean() < 0.7
    corners = pixels[[2, 2, -3, -3], [2, -3, 2, -3]]
    assert corners.min() > 220


def test_patterns_put_more_and_more_light_on_the_cloth() -> None:
    def coloured(pattern: str) -> float:
        pixels = np.asarray(draw_garment("dress", "red", pattern, seed=5)).astype(int)
        return float((np.abs(pixels - COLOURS["red"]).max(axis=2) < 40).mean())

    shares = [coloured(pattern) for pattern in ("plain", "stripes", "checks")]
    assert shares == sorted(shares, reverse=True)
    assert coloured("dots") < coloured("plain")


def test_the_same_seed_draws_the_same_and_another_differs() -> None:
    first, again, other = (np.asarray(draw_garment("skirt", "red", "dots", seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_catalog_has_every_combination_once_with_a_price() -> None:
    all_of_them = list(garments())
    assert len(all_of_them) == len(KINDS) * len(COLOURS) * len(PATTERNS) == 320
    assert len({garment.id for garment in all_of_them}) == 320
    assert all(5 < garment.price < 120 for garment in all_of_them)
    assert all_of_them == list(garments())


def test_the_manifest_names_pictures_that_exist(tmp_path: Path) -> None:
    manifest = write_catalog(tmp_path)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert len(rows) == 320
    assert rows[0].keys() == {"id", "image", "kind", "colour", "pattern", "price"}
    assert all((tmp_path / row["image"]).is_file() for row in rows)
    with Image.open(tmp_path / rows[0]["image"]) as picture:
        assert picture.size == (SIZE, SIZE)


def test_queries_ask_for_items_that_are_in_the_catalog() -> None:
    ids = {garment.id for garment in garments()}
    queries = list(demo_queries("garments"))
    assert len(queries) == 4
    for query in queries:
        for turn in query.turns:
            assert {turn.item, *turn.liked, *turn.disliked} - {""} <= ids
