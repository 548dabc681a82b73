"""Explanations with the shipped models: true, stable, and growing with what the text names.

And dialogues that begin with words. Small samples of what `benchmarks.explanations` measures.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from benchmarks.explanations import (
    NOTHING,
    Shop,
    drawn,
    parts,
    sense,
    shipped_network,
    stability,
    third_turn,
    truth,
    weighed,
)
from combiner_service.builtin import SlerpCombiner
from combiner_service.combiner import Combiner
from search_service.explanations import LITTLE

pytestmark = [pytest.mark.slow, pytest.mark.torch]

SERVED = "leave one out"


@pytest.fixture(scope="module")
def shop() -> Shop:
    return drawn(700, 4711)


@pytest.fixture(scope="module")
def network() -> Combiner:
    return shipped_network()


def test_hard_negatives_are_blamed_on_the_part_that_they_miss(shop: Shop, network: Combiner) -> None:
    for combiner in (network, SlerpCombiner()):
        right = truth(shop, combiner, SERVED, 300)
        assert min(right.values()) >= 0.95, (combiner.info.name, right)


def test_a_wish_has_its_share_whatever_its_phrasing_and_its_image(shop: Shop, network: Combiner) -> None:
    assert stability(shop, network, SERVED, 80) >= 0.85


def test_the_share_grows_with_what_the_text_names(shop: Shop, network: Combiner) -> None:
    grown = sense(shop, network, SERVED, 100)
    # 0.93 of 600, standard error of 100 wishes 0.02.
    assert grown["grows"] >= 0.9
    assert grown["one"] < grown["two"] < grown["three"]
    assert grown["wish_is_little"] <= 0.02


def test_texts_that_ask_for_nothing_move_little(shop: Shop, network: Combiner) -> None:
    images = shop.images[:60]
    for text in NOTHING:
        share = parts(shop, network, SERVED, images, np.repeat(shop.texts([text]), 60, axis=0)).text_share
        assert share.mean() < LITTLE, text


def test_each_step_of_a_text_weight_changes_more_and_keeps_less(shop: Shop, network: Combiner) -> None:
    figures = [weighed(shop, network, weight, 150) for weight in (0.0, 0.2, 0.35, 0.5, 0.75, 1.0)]
    to_own, to_text = figures[:4], figures[3:]
    assert all(after["changed"] > before["changed"] for before, after in pairwise(to_own)), figures
    assert all(after["kept"] < before["kept"] for before, after in pairwise(to_text)), figures


def test_dialogues_that_begin_with_words_keep_what_was_said(shop: Shop, network: Combiner) -> None:
    assert third_turn(shop, network, 60, by_text=True, image_length=shop.length) >= 0.95
