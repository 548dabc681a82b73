"""The sentences that ask for a change. Every sentence belongs to one split only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from combiner_service.garments.attributes import SplitName


@dataclass(frozen=True, slots=True)
class Frames:
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


FRAMES: Mapping[SplitName, Frames] = {
    "train": Frames(
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
    "val": Frames(
        quality=("have it {new}", "{new} this time", "now {new}"),
        colour=("the {new} version", "recolour it to {new}"),
        thing=("this time with {new}", "have {new}"),
        less=("this time without {old}", "take off the {old}"),
        kind=("{new} this time", "now as {new}"),
        longer=("a longer one",),
        shorter=("a shorter one",),
        both=("{first} plus {second}", "{first}, also {second}"),
    ),
    "test": Frames(
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
