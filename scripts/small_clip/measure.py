"""Zero-shot measures: how often the nearest text names what an image shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from garments.language import caption
from garments.vocabulary import BASE, KINDS, VALUES
from scripts.small_clip.labels import KIND_OF_LABEL

Features = npt.NDArray[np.float32]
EmbedTexts = Callable[[Sequence[str]], Features]


def named(images: Features, attributes: Sequence[Mapping[str, str]], embed: EmbedTexts) -> dict[str, float]:
    """Return the shares of drawn garments whose nearest caption has their kind, colour, pattern, and all.

    The captions are those of every kind in every colour and pattern, finer attributes left out.
    """
    combinations = [
        {"kind": kind, "colour": colour, "pattern": pattern}
        for kind in KINDS
        for colour in VALUES["colour"]
        for pattern in VALUES["pattern"]
    ]
    nearest = _nearest(images, embed([caption(each) for each in combinations]))
    right = {
        name: np.array(
            [combinations[best][name] == own[name] for best, own in zip(nearest, attributes, strict=True)]
        )
        for name in BASE
    }
    shares = {name: float(values.mean()) for name, values in right.items()}
    return shares | {"all": float(np.logical_and.reduce(list(right.values())).mean())}


def labelled(photos: Features, kinds: Sequence[str], embed: EmbedTexts) -> float:
    """Return the share of photos whose nearest label, of all 17, is their own."""
    labels = list(KIND_OF_LABEL.values())
    nearest = _nearest(photos, embed([f"a photo of {_article(label)}" for label in labels]))
    return float(np.mean([labels[best] == own for best, own in zip(nearest, kinds, strict=True)]))


def _article(label: str) -> str:
    from garments.vocabulary import noun_phrase

    return noun_phrase(label)


def _nearest(images: Features, texts: Features) -> list[int]:
    units = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    return (images @ units.T).argmax(axis=1).tolist()  # type: ignore[no-any-return]
