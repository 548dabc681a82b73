"""Contrast of images and texts where several texts may be true of an image, and some may or may not be."""

from __future__ import annotations

import torch


def contrastive_loss(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, true: torch.Tensor, false: torch.Tensor
) -> torch.Tensor:
    """Cross entropy in both directions, each true pair with an even share of its row's or column's target.

    `images` (n, d) and `texts` (n, d) are unit vectors, `true` and `false` bool (n, n); pairs that are
    neither are left out. Every image has a true text and every text a true image.
    """
    logits = (scale * images @ texts.T).masked_fill(~(true | false), float("-inf"))
    return (_one_way(logits, true) + _one_way(logits.T, true.T)) / 2


def _one_way(logits: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    log_shares = logits.log_softmax(dim=1)
    of_true = log_shares.masked_fill(~true, 0.0).sum(dim=1) / true.sum(dim=1)
    return -of_true.mean()
