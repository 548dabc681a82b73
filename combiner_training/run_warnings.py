"""Signs that a training cannot have learnt what it was meant to, in words for its result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from combiner_training.data import TrainingData
from combiner_training.evaluation.queries import EvaluationQueries
from combiner_training.evaluation.ranking import NONE

#: Lambda says nothing where it is nearer to an end than this on that share of the validation queries.
SATURATED, SATURATED_SHARE = 0.01, 0.99
# A training that begins with good weights may fall by less, from far below what guessing gives.
_STANDS_STILL, _FAR_BELOW = 0.9, 0.5
_TIMES = 3.0
EXPLODES = "the loss explodes"


def one_target(data: TrainingData) -> str:
    """Return a warning where every triplet has one and the same target, else nothing."""
    targets = np.unique(data.targets[data.targets != NONE])
    if len(targets) > 1:
        return ""
    name = data.features.images.header.names[int(targets[0])]
    return f"all {len(data.ids)} triplets have the one target {name!r}: there is nothing to tell apart"


def seen_in_training(data: TrainingData, parts: Sequence[EvaluationQueries]) -> str:
    """Return a warning where validation queries are among the triplets that are trained on, else nothing.

    The same reference, text and one of the targets make the same query.
    """
    images, texts = data.features.images.header.names, data.features.texts.header.names
    trained = {
        (images[reference], texts[text], images[target])
        for reference, of_text, of_target in zip(data.references, data.texts, data.targets, strict=True)
        for text in of_text[of_text != NONE]
        for target in of_target[of_target != NONE]
    }
    queries = [
        (reference, text, [part.names[at] for at in targets[targets != NONE]])
        for part in parts
        for reference, text, targets in zip(part.images, part.texts, part.targets, strict=True)
    ]
    seen = sum(
        any((reference, text, target) in trained for target in targets)
        for reference, text, targets in queries
    )
    if not seen:
        return ""
    return (
        f"{seen} of {len(queries)} validation queries are among the triplets that were trained on: of those "
        "the score says how well they are remembered"
    )


def loss_warning(first: float, epochs: Sequence[float], guessing: float, learning_rate: float) -> str:
    """Return a warning where the loss did not fall, else nothing.

    `first` is the loss of the first step, `epochs` the mean of each epoch so far, `guessing` that of equal
    scores for all of a batch.
    """
    last = epochs[-1]
    figures = f"{first:.4f} in the first step, {last:.4f} in the last epoch, {guessing:.4f} by guessing"
    if last > _TIMES * max(first, guessing):
        return f"{EXPLODES} ({figures}): the learning rate {learning_rate:g} is too high"
    begun = epochs[0] if len(epochs) > 1 else first
    if last >= max(_STANDS_STILL * begun, _FAR_BELOW * guessing):
        return (
            f"the loss does not fall ({figures}): the learning rate {learning_rate:g} is too low or too "
            "high, or the data say nothing"
        )
    return ""


def saturation(text_weights: NDArray[np.float32]) -> str:
    """Return a warning where lambda is 0 or 1 for nearly every validation query, else nothing."""
    for end, name in ((1.0, "text"), (0.0, "image")):
        share = float((np.abs(text_weights - end) < SATURATED).mean())
        if share >= SATURATED_SHARE:
            return (
                f"lambda is {end:.0f} within {SATURATED} for {100 * share:.1f} % of the validation queries, "
                f"so that it does not tell {name} from the rest, and a text weight of one's own hardly acts; "
                "see whether images and texts have features of like length (cir features extract prints it)"
            )
    return ""
