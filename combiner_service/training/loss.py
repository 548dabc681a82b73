"""The batch-based classification loss of the method (CVPR 2022, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: Fixed, as in the released code; CLIP's own is learned and ends at about the same.
LOGIT_SCALE = 100.0


def batch_classification_loss(queries: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of telling each query's target from the batch's other targets.

    One direction only, from query to target; other targets of the batch are the only negatives.

    Args:
        queries: (b, d) unit query vectors, as the network gives them.
        targets: (b, d) raw image features; they are normalised here.

    Returns a scalar.
    """
    logits = LOGIT_SCALE * queries @ functional.normalize(targets, dim=-1).T
    return functional.cross_entropy(logits, torch.arange(len(queries), device=queries.device))
