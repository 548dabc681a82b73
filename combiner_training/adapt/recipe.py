"""Numbers of the training that catalogs get: small networks, and as many epochs as make the same steps."""

from __future__ import annotations

from combiner_training.options import Schedule, TrainOptions

#: Widths of the network; with CLIP's 128 to 1024 values larger ones are no better on a catalog's triplets.
PROJECTION, HIDDEN = 512, 768
LEARNING_RATE = 1e-3
CONTINUED = 0.4
#: Answers that each query is told from beside its batch's: of most catalogs all that training asks for.
CANDIDATES = 4096
_STEPS = 700
_BATCH, _LEAST_BATCH = 512, 32
_BATCHES_OF_EPOCH = 8
_LEAST_EPOCHS, _MOST_EPOCHS = 4, 80
_VALIDATIONS = 6


def train_options(triplets: int, *, epochs: int = 0, seed: int = 0, device: str = "auto") -> TrainOptions:
    """Return the options for a number of triplets; 0 epochs are as many as make about 700 steps.

    A small catalog has smaller batches, so that an epoch has several.
    """
    batch = _BATCH
    while batch > _LEAST_BATCH and batch * _BATCHES_OF_EPOCH > triplets:
        batch //= 2
    epochs = epochs or max(_LEAST_EPOCHS, min(_MOST_EPOCHS, round(_STEPS * batch / triplets)))
    return TrainOptions(
        epochs=epochs,
        batch_size=batch,
        learning_rate=LEARNING_RATE,
        # In so few steps a falling rate learns less.
        schedule=Schedule.CONSTANT,
        mask_right_answers=True,
        candidates=CANDIDATES,
        continued=CONTINUED,
        projection_dim=PROJECTION,
        hidden_dim=HIDDEN,
        validate_every=max(1, epochs // _VALIDATIONS),
        seed=seed,
        device=device,
    )
