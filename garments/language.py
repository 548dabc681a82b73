"""Texts about garments: captions, and sentences that ask for a change, from templates of each split."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from garments.vocabulary import (
    MARKS,
    NECK_THINGS,
    SLEEVE_THINGS,
    VALUES,
    Attributes,
    Edit,
    SplitName,
    adjectives_of,
    noun_phrase,
)

_CAPTION_TEMPLATES = (
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
    said = {
        name: value
        for name, value in attributes.items()
        if name in ("kind", "colour", "pattern") or rng.random() < 0.75
    }
    behind: list[str] = []
    if rng.random() < 0.35:
        behind.append(f"in {said.pop('colour')}")
    things = _things(said, rng)
    if things:
        # "without any pattern" and "no sleeves" are said on their own.
        behind += [thing if thing.startswith("without") else f"with {thing}" for thing in things]
    if "length" in said and rng.random() < 0.25:
        said["length"] = {"short": "shorter", "long": "longer"}[said["length"]]
    phrase = noun_phrase(said["kind"], adjectives_of(said))
    rng.shuffle(behind)
    if len(behind) > 1:
        behind[-1] = f"and {behind[-1]}"
    if rng.random() < 0.15:
        behind.append(_contrast(attributes, rng))
    return rng.choice(_CAPTION_TEMPLATES).format(" ".join((phrase, *behind)))


def _contrast(attributes: Attributes, rng: random.Random) -> str:
    name = rng.choice(("colour", "pattern"))
    other = rng.choice([value for value in VALUES[name] if value != attributes[name]])
    return rng.choice(("instead of {}", "and not {}", "rather than {}")).format(other)


def _things(said: dict[str, str], rng: random.Random) -> list[str]:
    """Take out of `said` what is said as a thing that the garment has, or has not."""
    things: list[str] = []
    if "neckline" in said:
        things.append(NECK_THINGS[said.pop("neckline")])
    if "sleeve" in said and rng.random() < 0.5:
        sleeve = said.pop("sleeve")
        things.append(
            "without sleeves" if sleeve == "sleeveless" and rng.random() < 0.5 else SLEEVE_THINGS[sleeve]
        )
    if rng.random() < 0.4:
        pattern = said.pop("pattern")
        if pattern != "plain":
            things.append(MARKS[pattern])
        else:
            absent = rng.choice(("any pattern", *MARKS.values()))
            things.append(f"without {absent}" if rng.random() < 0.5 else f"no {absent.removeprefix('any ')}")
    return things


@dataclass(frozen=True, slots=True)
class Templates:
    """Sentences with {new} and, in some, {old} for what is replaced.

    `quality` takes an adjective ("striped"), `colour` a colour, `thing` what a garment has ("stripes", "long
    sleeves", "a v-neck"), `less` what it is to have no longer, `kind` a kind with its article, `longer` and
    `shorter` nothing. `both` joins two of them.
    """

    quality: tuple[str, ...]
    colour: tuple[str, ...]
    thing: tuple[str, ...]
    less: tuple[str, ...]
    kind: tuple[str, ...]
    longer: tuple[str, ...]
    shorter: tuple[str, ...]
    both: tuple[str, ...]


TEMPLATES: Mapping[SplitName, Templates] = {
    "train": Templates(
        quality=(
            "is {new}",
            "make it {new}",
            "{new} instead",
            "the same, only {new}",
            "it should be {new}",
            "change it to {new}",
            "but {new}",
            "this one, but {new}",
            "{new} instead of {old}",
            "not {old} but {new}",
            "I want it {new}",
        ),
        colour=(
            "in {new}",
            "the same in {new}",
            "change the colour to {new}",
            "in {new} instead of {old}",
            "the colour should be {new}",
            "I want the colour to be {new}",
        ),
        thing=(
            "with {new}",
            "has {new}",
            "give it {new}",
            "it should have {new}",
            "the same with {new}",
            "with {new} instead of {old}",
            "I want {new} on it",
        ),
        less=(
            "without {old}",
            "without the {old}",
            "remove the {old}",
            "it should have no {old}",
            "take the {old} away",
            "the same with no {old}",
        ),
        kind=(
            "make it {new}",
            "{new} instead",
            "change it to {new}",
            "it should be {new}",
            "the same, but {new}",
            "is {new}",
            "{new} instead of {old}",
            "not {old} but {new}",
            "I want {new} like this",
            "show me {new} in this colour",
        ),
        longer=("longer", "is longer", "make it longer", "it should be longer", "the same, only longer"),
        shorter=(
            "shorter",
            "is shorter",
            "make it shorter",
            "it should be shorter",
            "the same, only shorter",
        ),
        both=(
            "{first} and {second}",
            "{first}, {second}",
            "{first} and also {second}",
        ),
    ),
    "val": Templates(
        quality=("have it {new}", "{new} this time", "now {new}"),
        colour=("the {new} version", "recolour it to {new}"),
        thing=("this time with {new}", "have {new}"),
        less=("this time without {old}", "take off the {old}"),
        kind=("{new} this time", "now as {new}"),
        longer=("a longer one",),
        shorter=("a shorter one",),
        both=("{first} plus {second}", "{first}, also {second}"),
    ),
    "test": Templates(
        quality=("is {new} instead", "same but {new}", "turn it {new}", "I would like it to be {new}"),
        colour=("in {new}, please", "is there one in {new}", "replace {old} by {new}"),
        thing=("same but with {new}", "put {new} on it", "has {new} instead"),
        less=("no {old}", "same but without {old}", "no more {old}"),
        kind=("make it {new} in the same colour", "same but as {new}", "I would rather have {new}"),
        longer=("same but longer", "a bit longer, please"),
        shorter=("same but shorter", "a bit shorter, please"),
        both=("{first}, and {second}", "{first} but also {second}"),
    ),
}


# How often a new kind and a new colour, pattern or length are said as one: "make it a red skirt".
_JOINED = 0.3


def phrase(edits: Sequence[Edit], before: Attributes, split: SplitName, rng: random.Random) -> str:
    """One or two edits of a garment that has the attributes `before`, in words of the split."""
    frames = TEMPLATES[split]
    if len(edits) == 1:
        return _single(edits[0], before, frames, rng)
    first, second = edits
    if second.attribute == "kind":
        first, second = second, first
    if second.attribute == "colour":
        frames = replace(frames, kind=tuple(frame for frame in frames.kind if "colour" not in frame))
    joinable = first.attribute == "kind" and second.attribute in ("colour", "pattern", "length")
    if joinable and rng.random() < _JOINED:
        return _kind(first.value, before, frames, rng, (second.value,))
    parts = [_single(edit, before, frames, rng) for edit in (first, second)]
    rng.shuffle(parts)
    return rng.choice(frames.both).format(first=parts[0], second=parts[1])


def _single(edit: Edit, before: Attributes, frames: Templates, rng: random.Random) -> str:
    old = before.get(edit.attribute, "")
    match edit.attribute:
        case "kind":
            return _kind(edit.value, before, frames, rng)
        case "colour":
            return _filled((*frames.quality, *frames.colour), edit.value, old, rng)
        case "pattern":
            return _pattern(edit.value, old, frames, rng)
        case "sleeve":
            return _sleeve(edit.value, old, frames, rng)
        case "length":
            relative = frames.longer if edit.value == "long" else frames.shorter
            # "longer" says how it is to differ: from a garment whose length is known.
            return _filled((*frames.quality, *(relative * 2 if old else ())), edit.value, old, rng)
    return _filled(frames.thing, NECK_THINGS[edit.value], NECK_THINGS.get(old, ""), rng)


def _kind(
    kind: str, before: Attributes, frames: Templates, rng: random.Random, adjectives: Sequence[str] = ()
) -> str:
    return _filled(frames.kind, noun_phrase(kind, adjectives), noun_phrase(before["kind"]), rng)


def _pattern(new: str, old: str, frames: Templates, rng: random.Random) -> str:
    if new == "plain" and rng.random() < 0.6:
        return _filled(frames.less, "", MARKS[old], rng)
    if new != "plain" and rng.random() < 0.5:
        return _filled(frames.thing, MARKS[new], MARKS.get(old, ""), rng)
    return _filled(frames.quality, new, old, rng)


def _sleeve(new: str, old: str, frames: Templates, rng: random.Random) -> str:
    if new == "sleeveless" and old and rng.random() < 0.5:
        return _filled(frames.less, "", "sleeves", rng)
    if rng.random() < 0.5:
        return _filled(frames.thing, SLEEVE_THINGS[new], SLEEVE_THINGS[old] if old else "", rng)
    return _filled(frames.quality, new, old, rng)


def _filled(frames: Sequence[str], new: str, old: str, rng: random.Random) -> str:
    usable = [frame for frame in frames if old or "{old}" not in frame]
    return rng.choice(usable).format(new=new, old=old)
