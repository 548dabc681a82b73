"""Texts for training: captions that state all attributes, and changes that state one or two. Pure."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from garments.language import phrase
from garments.vocabulary import BASE, VALUES, Attributes, Edit, noun_phrase
from scripts.small_clip.labels import OTHER_WORDS

# Share of drawn images that get a text with only one or two of their attributes.
_SHORT = 0.5

_TELLS: Mapping[str, re.Pattern[str]] = {
    "sleeve": re.compile(r"\bsleeveless\b|\bsleeves\b|-sleeved (?!shirt)"),
    "length": re.compile(r"\b(?:short|long)(?:er)?\b(?!-sleeved| sleeves)"),
    "neckline": re.compile(r"\bneck\b|\bv-neck\b"),
}


def told_by(caption: str, attributes: Attributes) -> dict[str, str]:
    """Return the attributes that a caption states: kind, colour, pattern, and the rest by its words."""
    return {name: value for name, value in attributes.items() if name in BASE or _TELLS[name].search(caption)}


def text_of(
    captions: Sequence[str], attributes: Attributes, rng: random.Random
) -> tuple[str, dict[str, str]]:
    """Return a text that is true of a drawn garment, and the attributes that it states."""
    if rng.random() >= _SHORT:
        caption = rng.choice(captions)
        return caption, told_by(caption, attributes)
    names = rng.sample(list(attributes), rng.choice((1, 2)))
    told = {name: attributes[name] for name in names}
    if rng.random() < 0.25:
        return _bare(told), told
    before = {
        name: rng.choice([other for other in VALUES[name] if other != value]) if name in told else value
        for name, value in attributes.items()
    }
    return phrase([Edit(name, value) for name, value in told.items()], before, "train", rng), told


def photo_text(kind: str, colour: str, rng: random.Random) -> tuple[str, dict[str, str]]:
    """Return a text that is true of a photo, and the attributes it states; an empty colour is left out."""
    told = {"kind": kind}
    if colour and rng.random() < 0.4:
        told["colour"] = colour
        phrase = noun_phrase(kind, [colour])
    elif kind in OTHER_WORDS and rng.random() < 0.3:
        phrase = rng.choice(OTHER_WORDS[kind])
    else:
        phrase = noun_phrase(kind)
    return rng.choice(("{}", "a photo of {}", "a picture of {}", "this is {}")).format(phrase), told


def _bare(told: Mapping[str, str]) -> str:
    """Return the words alone, as they are typed into a search field: "red striped", "long dress"."""
    adjectives = [value for name, value in told.items() if name not in ("kind", "neckline")]
    neck = [
        f"{value} neck".replace("v-neck neck", "v-neck") for name, value in told.items() if name == "neckline"
    ]
    return " ".join((*adjectives, *([told["kind"]] if "kind" in told else []), *neck))
