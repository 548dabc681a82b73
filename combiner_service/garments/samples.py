"""Garments in memory, for training: each sample is a pure function of its number."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from combiner_service.garments.attributes import VALUES, Attributes, SplitName, names_of, split_of
from combiner_service.garments.captions import captions
from combiner_service.garments.items import seed_of
from combiner_service.garments.render import SIZE, render
from combiner_service.garments.scene import Size


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture, uint8 (height, width, 3) RGB, with captions, the plain one first, and its attributes."""

    image: NDArray[np.uint8]
    captions: tuple[str, ...]
    attributes: Attributes


def sample(number: int, *, seed: int, split: SplitName | None = "train", size: Size = SIZE) -> Sample:
    """The sample of that number, without limit: every kind, colour and pattern is equally likely.

    Workers need share nothing: each draws its own numbers. `split` chooses the combinations (None: all),
    `size` is width and height; a picture is drawn in the time that its size takes, so that training on small
    ones is fast. The picture has gone through JPEG, as photos have. No sample shares its seed with an item of
    a catalog.
    """
    own = seed_of("sample", seed, split, number)
    rng = random.Random(own)  # noqa: S311  # pictures, not secrets
    while True:
        attributes = {name: rng.choice(VALUES[name]) for name in VALUES}
        attributes = {name: attributes[name] for name in names_of(attributes["kind"])}
        if split is None or split_of(attributes) == split:
            break
    with Image.open(io.BytesIO(render(attributes, seed=own, size=size))) as picture:
        image = np.asarray(picture)
    return Sample(image, captions(attributes, rng), attributes)
