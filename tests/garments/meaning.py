"""Attributes that a text asks for, read from its words alone, without the code that makes the texts."""

from __future__ import annotations

import re

from garments.vocabulary import KINDS, VALUES

ADJECTIVES = {value: name for name in ("pattern", "sleeve", "length", "colour") for value in VALUES[name]}
THINGS = {
    "stripes": ("pattern", "striped"),
    "dots": ("pattern", "dotted"),
    "checks": ("pattern", "checked"),
    "flowers": ("pattern", "floral"),
    "zigzags": ("pattern", "zigzag"),
    "short sleeves": ("sleeve", "short-sleeved"),
    "long sleeves": ("sleeve", "long-sleeved"),
    "no sleeves": ("sleeve", "sleeveless"),
    "a round neck": ("neckline", "round"),
    "a v-neck": ("neckline", "v-neck"),
    "longer": ("length", "long"),
    "shorter": ("length", "short"),
}
GONE = dict.fromkeys(("stripes", "dots", "checks", "flowers", "zigzags"), ("pattern", "plain"))
GONE["sleeves"] = ("sleeve", "sleeveless")

_WORDS = "|".join(sorted(map(re.escape, (*KINDS, *THINGS, *ADJECTIVES)), key=len, reverse=True))
_REPLACED = (
    rf"instead of (?:an? )?(?:{_WORDS})\b",
    rf"\bnot (?:an? )?(?:{_WORDS}) but\b",
    rf"\breplace (?:{_WORDS}) by\b",
)
_LESS = (
    r"\b(?:without|without the|remove the|take off the|take the|with no|have no|no more|no) ({}) ?(?:away)?"
)


def asked_for(text: str) -> dict[str, str]:
    """The attributes that a text says the garment shall have."""
    for replaced in _REPLACED:
        text = re.sub(replaced, " ", text)
    found: dict[str, str] = {}

    def note(name: str, value: str) -> str:
        assert found.setdefault(name, value) == value, (text, name, value)
        return " "

    text = re.sub(_LESS.format("|".join(GONE)), lambda match: note(*GONE[match[1]]), text)
    says = {thing: (name, value) for thing, (name, value) in THINGS.items()}
    says |= {kind: ("kind", kind) for kind in sorted(KINDS, key=len, reverse=True)}
    says |= {adjective: (name, adjective) for adjective, name in ADJECTIVES.items()}
    for said, (name, value) in says.items():
        text, times = re.subn(rf"(?<![\w-]){said}(?![\w-])", " ", text)
        if times:
            note(name, value)
    return found
