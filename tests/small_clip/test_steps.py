"""Steps of the training: augmentation, and the contrastive loss against a sum over pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scripts.small_clip.augment import augmented
from scripts.small_clip.loss import contrastive_loss

pytestmark = pytest.mark.torch


@given(st.integers(1, 6), st.integers(0, 1000))
def test_it_is_the_mean_over_true_pairs_of_rows_and_columns(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    images, texts = (rng.normal(size=(n, 4)) for _ in range(2))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    kinds = rng.integers(0, 3, (n, n))
    true, false = kinds == 0, kinds == 1
    true |= np.eye(n, dtype=bool)
    false &= ~true
    logits = 7.0 * images @ texts.T

    def one_way(values: np.ndarray, is_true: np.ndarray, is_false: np.ndarray) -> float:
        total = 0.0
        for row in range(n):
            among = is_true[row] | is_false[row]
            shares = np.exp(values[row]) / np.exp(values[row][among]).sum()
            total -= np.log(shares[is_true[row]]).mean()
        return total / n

    expected = (one_way(logits, true, false) + one_way(logits.T, true.T, false.T)) / 2
    arguments = (torch.from_numpy(each) for each in (images, texts, np.array(7.0), true, false))
    np.testing.assert_allclose(contrastive_loss(*arguments).item(), expected, rtol=1e-9)


def test_pairs_that_may_be_true_do_not_count() -> None:
    one = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    true, nothing = torch.eye(2, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.bool)
    assert contrastive_loss(one, one, torch.tensor(1.0), true, nothing).item() == 0
    assert contrastive_loss(one, one, torch.tensor(1.0), true, ~true).item() > 0.3


def test_augmented_images_keep_their_size_range_and_colour() -> None:
    pixels = torch.zeros(6, 16, 16, 3, dtype=torch.uint8)
    pixels[..., 0] = 200
    reach = torch.tensor([0.1] * 3 + [0.45] * 3)
    values = augmented(pixels, reach, np.random.default_rng(1))
    assert values.shape == (6, 3, 16, 16)
    assert values.dtype == torch.float32
    assert values[:, 1:].max() < 1e-6
    assert 0.92 * 200 / 255 - 1e-3 <= values[:, 0].min() <= values[:, 0].max() <= 1.08 * 200 / 255 + 1e-3
    again = augmented(pixels, reach, np.random.default_rng(1))
    assert torch.equal(values, again)
    assert not torch.equal(values, augmented(pixels, reach, np.random.default_rng(2)))
