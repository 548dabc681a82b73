"""Captions of a garment, as shops and people write them."""

from __future__ import annotations

import random

from combiner_service.garments.attributes import VALUES, Attributes
from combiner_service.garments.words import (
    MARKS,
    NECK_THINGS,
    SLEEVE_THINGS,
    adjectives_of,
    noun_phrase,
)

_FRAMES = (
    "{}",
    "{}",
    "a photo of {}",
    "a picture of {}",
    "this is {}",
    "it is {}",
    "there is {}",
    "now {}",
    "{}, please",
    "I want {}",
    "we have {} for you",
    "the same, but {}",
    "{} instead",
    "make it {}",
    "change it to {}",
    "it should be {}",
)


def caption(attributes: Attributes) -> str:
    """The plain caption with all attributes that are given: "a long sleeveless red striped dress"."""
    phrase = noun_phrase(attributes["kind"], adjectives_of(attributes))
    neck = attributes.get("neckline")
    return f"{phrase} with {NECK_THINGS[neck]}" if neck else phrase


def captions(attributes: Attributes, rng: random.Random, count: int = 4) -> tuple[str, ...]:
    """`count` captions: the plain one, then others that say the same in other words.

    Every caption has kind, colour and pattern; the finer attributes are left out now and then.
    """
    return (caption(attributes), *(_varied(attributes, rng) for _ in range(count - 1)))


def _varied(attributes: Attributes, rng: random.Random) -> str:
    told = {
        name: value
        for name, value in attributes.items()
        if name in ("kind", "colour", "pattern") or rng.random() < 0.75
    }
    behind: list[str] = []
    if rng.random() < 0.35:
        behind.append(f"in {told.pop('colour')}")
    things = _things(told, rng)
    if things:
        # "without any pattern" and "no sleeves" are said on their own.
        behind += [thing if thing.startswith("without") else f"with {thing}" for thing in things]
    if "length" in told and rng.random() < 0.25:
        told["length"] = {"short": "shorter", "long": "longer"}[told["length"]]
    phrase = noun_phrase(told["kind"], adjectives_of(told))
    rng.shuffle(behind)
    if len(behind) > 1:
        behind[-1] = f"and {behind[-1]}"
    if rng.random() < 0.15:
        behind.append(_contrast(attributes, rng))
    return rng.choice(_FRAMES).format(" ".join((phrase, *behind)))


def _contrast(attributes: Attributes, rng: random.Random) -> str:
    name = rng.choice(("colour", "pattern"))
    other = rng.choice([value for value in VALUES[name] if value != attributes[name]])
    return rng.choice(("instead of {}", "and not {}", "rather than {}")).format(other)


def _things(told: dict[str, str], rng: random.Random) -> list[str]:
    """Takes out of `told` what is said as a thing that the garment has, or has not."""
    things: list[str] = []
    if "neckline" in told:
        things.append(NECK_THINGS[told.pop("neckline")])
    if "sleeve" in told and rng.random() < 0.5:
        sleeve = told.pop("sleeve")
        things.append(
            "without sleeves" if sleeve == "sleeveless" and rng.random() < 0.5 else SLEEVE_THINGS[sleeve]
        )
    if rng.random() < 0.4:
        pattern = told.pop("pattern")
        if pattern != "plain":
            things.append(MARKS[pattern])
        else:
            absent = rng.choice(("any pattern", *MARKS.values()))
            things.append(f"without {absent}" if rng.random() < 0.5 else f"no {absent.removeprefix('any ')}")
    return things
