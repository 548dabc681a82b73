"""Numbers of the training of an inversion, each with its default, bounds and help in one place."""

from __future__ import annotations

from dataclasses import dataclass

from combiner_training.options import TrainingError
from service_runtime.options import check_options, option


@dataclass(frozen=True, slots=True, kw_only=True)
class InversionOptions:
    """Numbers of the training of an inversion, from which the command line makes its options.

    Raises:
        TrainingError: A number is out of its bounds.
    """

    steps: int = option(1500, min=1, help="Batches in all.")
    batch_size: int = option(256, min=2, help="Captions or images in a batch.")
    learning_rate: float = option(1e-3, above=0.0, help="AdamW's, which falls to zero as a cosine.")
    hidden_dim: int = option(512, min=1, help="Width of phi's hidden layers.")
    dropout: float = option(0.1, min=0.0, max=0.9, help="Dropout in phi; the published ones have 0.5.")
    noise: float = option(
        1.0, min=0.0, help="Largest noise on the features of captions, as a share of their length."
    )
    template: str = option(
        "{image} {text}",
        help="Sentence of image and text in searches; the published one is: a photo of {image} that {text}",
    )
    seed: int = option(0, min=0, help="Of weights, order, noise and dropout.")
    validate_every: int = option(100, min=1, help="Batches between validations, and between saved states.")

    def __post_init__(self) -> None:
        check_options(self, TrainingError)
