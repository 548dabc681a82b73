"""Numbers of a training, and the error that ends one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Defaults are those of the method's released code and its README (CLIP4Cir, stage 2).

    `batch_size` is in triplets and also the number of candidates that the loss tells apart; what is left of
    an epoch is dropped. `learning_rate` is Adam's, constant. `projection_dim` and `hidden_dim` are the
    network's. `validate_every` is in epochs, and so often is the state saved that `resume` goes on from.
    `continued` is the share of triplets whose reference is the composed query of an earlier one, which is not
    part of the method (see chains.py).
    `patience` stops after so many validations without a better one; 0 never does. `mixed_precision` takes
    effect on CUDA alone.
    """

    epochs: int = 300
    batch_size: int = 4096
    learning_rate: float = 2e-5
    continued: float = 0.0
    projection_dim: int = 2560
    hidden_dim: int = 5120
    seed: int = 0
    validate_every: int = 1
    patience: int = 0
    device: str = "auto"
    mixed_precision: bool = True


class TrainingError(ValueError):
    """A fault of a training's input, folder or options; the message says what to do."""
