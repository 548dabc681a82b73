"""Words for attributes: as adjectives, as things that a garment has, and as nouns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from combiner_service.garments.attributes import Attributes

MARKS: Mapping[str, str] = {
    "striped": "stripes",
    "dotted": "dots",
    "checked": "checks",
    "floral": "flowers",
    "zigzag": "zigzags",
}
"""What a pattern puts on the cloth; plain has none."""

SLEEVE_THINGS: Mapping[str, str] = {
    "sleeveless": "no sleeves",
    "short-sleeved": "short sleeves",
    "long-sleeved": "long sleeves",
}
NECK_THINGS: Mapping[str, str] = {"round": "a round neck", "v-neck": "a v-neck"}

_PLURAL = ("trousers", "shorts")


def noun_phrase(kind: str, adjectives: Sequence[str] = ()) -> str:
    """The kind with its article: "a red dress", "an orange hat", "red trousers"."""
    words = " ".join((*adjectives, kind))
    if kind in _PLURAL:
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def adjectives_of(attributes: Attributes) -> list[str]:
    """Length, sleeve, colour and pattern as adjectives, as far as they are given, in their usual order."""
    return [attributes[name] for name in ("length", "sleeve", "colour", "pattern") if name in attributes]
