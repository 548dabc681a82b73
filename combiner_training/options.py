"""Numbers of a training, each with its default, bounds and help in one place, and the error that ends one."""

from __future__ import annotations

from dataclasses import dataclass

from service_runtime.options import check_options, option


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """Numbers of a training, from which the command line makes its options.

    Defaults are those of the method's released code and its README (CLIP4Cir, stage 2). A batch has
    `batch_size` candidates that the loss tells apart; what is left of an epoch is dropped. After
    `validate_every` epochs the state is also saved from which `resume` continues.

    Raises:
        TrainingError: A number is out of its bounds.
    """

    epochs: int = option(300, min=1, help="Passes over the triplets.")
    batch_size: int = option(4096, min=2, help="Triplets in a batch, which are each other's negatives.")
    learning_rate: float = option(2e-5, min=0.0, help="Adam's, constant.")
    continued: float = option(
        0.0,
        min=0.0,
        max=1.0,
        help="Share of triplets whose reference is the composed query of a triplet that leads to it, for "
        "dialogues of several turns; the method has none.",
    )
    projection_dim: int = option(2560, min=1, help="Width of the two projections.")
    hidden_dim: int = option(5120, min=1, help="Width of the hidden layers.")
    seed: int = option(0, min=0, help="Of weights, order, captions and dropout.")
    validate_every: int = option(1, min=1, help="Epochs between validations, and between saved states.")
    patience: int = option(
        0, min=0, help="Stop after this number of validations without a better one; 0 never does."
    )
    device: str = option("auto", help="auto (CUDA where there is one), cpu, cuda, cuda:N.")
    mixed_precision: bool = option(True, help="On CUDA: half precision where it helps.")

    def __post_init__(self) -> None:
        check_options(self, TrainingError)


class TrainingError(ValueError):
    """A fault of a training's input, folder or options; the message says what to do."""
