"""Templates of sentences in which an image stands as a word: "a photo of {image} that {text}"."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: Characters of a template.
MAX_TEMPLATE_CHARACTERS = 1000


class Slot(StrEnum):
    """Place in a template that something is put into."""

    IMAGE = "{image}"
    TEXT = "{text}"


class TemplateError(ValueError):
    """A text that is no template; the message says what is expected."""


@dataclass(frozen=True, slots=True)
class Template:
    """Words and slots of a template in their order; each slot stands in it once."""

    parts: tuple[str | Slot, ...]


def parse_template(text: str) -> Template:
    """Parse a template.

    Raises:
        TemplateError: It is too long, or does not have each slot exactly once.
    """
    if len(text) > MAX_TEMPLATE_CHARACTERS:
        raise TemplateError(
            f"a template of {len(text)} characters; at most {MAX_TEMPLATE_CHARACTERS} are taken"
        )
    for slot in Slot:
        if text.count(slot) != 1:
            raise TemplateError(
                f"the template {text[:100]!r} has {slot} {text.count(slot)} times; expected once, as in "
                "'a photo of {image} that {text}'"
            )
    first, second = sorted(Slot, key=text.index)
    before, _, rest = text.partition(first)
    between, _, after = rest.partition(second)
    return Template(tuple(part for part in (before, first, between, second, after) if part))
