"""Edits as people say them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from combiner_service.garments.attributes import Attributes, SplitName
from combiner_service.garments.edits import Edit
from combiner_service.garments.frames import FRAMES, Frames
from combiner_service.garments.words import MARKS, NECK_THINGS, SLEEVE_THINGS, noun_phrase

# How often a new kind and a new colour, pattern or length are said as one: "make it a red skirt".
_JOINED = 0.3


def phrase(edits: Sequence[Edit], before: Attributes, split: SplitName, rng: random.Random) -> str:
    """One or two edits of a garment that has the attributes `before`, in words of the split."""
    frames = FRAMES[split]
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


def _single(edit: Edit, before: Attributes, frames: Frames, rng: random.Random) -> str:
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
    kind: str, before: Attributes, frames: Frames, rng: random.Random, adjectives: Sequence[str] = ()
) -> str:
    return _filled(frames.kind, noun_phrase(kind, adjectives), noun_phrase(before["kind"]), rng)


def _pattern(new: str, old: str, frames: Frames, rng: random.Random) -> str:
    if new == "plain" and rng.random() < 0.6:
        return _filled(frames.less, "", MARKS[old], rng)
    if new != "plain" and rng.random() < 0.5:
        return _filled(frames.thing, MARKS[new], MARKS.get(old, ""), rng)
    return _filled(frames.quality, new, old, rng)


def _sleeve(new: str, old: str, frames: Frames, rng: random.Random) -> str:
    if new == "sleeveless" and old and rng.random() < 0.5:
        return _filled(frames.less, "", "sleeves", rng)
    if rng.random() < 0.5:
        return _filled(frames.thing, SLEEVE_THINGS[new], SLEEVE_THINGS[old] if old else "", rng)
    return _filled(frames.quality, new, old, rng)


def _filled(frames: Sequence[str], new: str, old: str, rng: random.Random) -> str:
    usable = [frame for frame in frames if old or "{old}" not in frame]
    return rng.choice(usable).format(new=new, old=old)
