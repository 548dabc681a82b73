"""Numbers of a training, each with its default, bounds and help in one place, and the error that ends one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from service_runtime.options import check_options, option


class Schedule(StrEnum):
    """Course of the learning rate over a training."""

    CONSTANT = "constant"
    COSINE = "cosine"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """Numbers of a training, from which the command line makes its options.

    Defaults are those of the method's released code and its README (CLIP4Cir, stage 2), but for the rate's
    `schedule`. A batch has
    `batch_size` candidates that the loss tells apart; what is left of an epoch is dropped. After
    `validate_every` epochs the state is also saved from which `resume` continues.

    Raises:
        TrainingError: A number is out of its bounds.
    """

    epochs: int = option(300, min=1, help="Passes over the triplets.")
    batch_size: int = option(4096, min=2, help="Triplets in a batch, which are each other's negatives.")
    learning_rate: float = option(2e-5, above=0.0, help="Adam's, the highest of its `schedule`.")
    schedule: Schedule = option(
        Schedule.COSINE,
        help="Course of the learning rate: constant, as the method has it, or a cosine that falls to zero "
        "in the last step of `epochs`, which then cannot be changed by `resume`.",
    )
    warm_up: float = option(
        0.0, min=0.0, max=1.0, help="Share of the steps in which the learning rate rises from zero."
    )
    mask_right_answers: bool = option(
        False,
        help="Leave targets of other triplets out of the loss where they are right for a triplet, too; for "
        "data whose triplets list several targets.",
    )
    candidates: int = option(
        0,
        min=0,
        help="Targets of other triplets, drawn for each batch, that its triplets are told from in addition "
        "to each other's; the method has none.",
    )
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

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, counted from 0, of a training of `steps` steps."""
        rising = min(1.0, (step + 1) / max(1.0, self.warm_up * steps))
        falling = 0.5 * (1 + math.cos(math.pi * step / steps)) if self.schedule is Schedule.COSINE else 1.0
        return self.learning_rate * rising * falling

    @property
    def beyond_the_method(self) -> dict[str, str]:
        """Return what the method does not have, by option, where it is in use."""
        chosen = {
            "schedule": str(self.schedule) if self.schedule is not Schedule.CONSTANT else "",
            "warm_up": str(self.warm_up) if self.warm_up else "",
            "mask_right_answers": "yes" if self.mask_right_answers else "",
            "candidates": str(self.candidates) if self.candidates else "",
            "continued": str(self.continued) if self.continued else "",
        }
        return {name: value for name, value in chosen.items() if value}


class TrainingError(ValueError):
    """A fault of a training's input, folder or options; the message says what to do."""


class OptionError(ValueError):
    """Options that do not go together, or say nothing of the data that they are given for."""
