"""Payload fields as engines address and index them: paths in a stored point, and terms of texts and bools.

Engines address payload by a JSON path in which a quoted key may hold every character but the quote
itself. So the quote (and the escape character) is written as a percent code, in stored keys and in
paths alike, and all other characters stay readable.

Terms are what filters on some fields look for instead of the value: the words of a text, so that every engine
has the same words, and "true" or "false" for a bool, because Qdrant Edge 0.9 takes a bool in a filter for the
number 0 or 1."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

from cir.fields import FieldType

_ESCAPED = '%"\\'
_CODES = {character: f"%{ord(character):02X}" for character in _ESCAPED}
_CHARACTERS = {code: character for character, code in _CODES.items()}

DATA = "data"
TERMS = "terms"


def escape_key(name: str) -> str:
    """The stored key of field `name`."""
    return "".join(_CODES.get(character, character) for character in name)


def unescape_key(key: str) -> str:
    """The field name of a stored key."""
    if "%" not in key:
        return key
    pieces = []
    position = 0
    while position < len(key):
        code = key[position : position + 3]
        pieces.append(_CHARACTERS.get(code, key[position]))
        position += 3 if code in _CHARACTERS else 1
    return "".join(pieces)


def data_path(name: str) -> str:
    """JSON path of field `name` in a stored point."""
    return f'{DATA}."{escape_key(name)}"'


def terms_path(name: str) -> str:
    """JSON path of the terms by which text or bool field `name` is found."""
    return f'{TERMS}."{escape_key(name)}"'


_WORD = re.compile(r"[^\W_]+")


# Normalisation sorts the marks of a run in quadratic time. No word of a language has more (UAX 15,
# Stream-Safe Text Format).
_MARKS_IN_A_ROW = 30
_LAST_MARK = 0x1F000


@cache
def _many_marks() -> re.Pattern[str]:
    """Match runs of too many characters that are marks, or become them when they are normalised."""
    marks = "".join(
        character
        for character in map(chr, range(0x300, _LAST_MARK))
        if unicodedata.combining(unicodedata.normalize("NFKD", character)[0])
    )
    return re.compile(f"[{re.escape(marks)}]{{{_MARKS_IN_A_ROW + 1},}}")


def leave_out_marks(text: str) -> str:
    """Leave out what is over 30 in each run of marks, so that a text is normalised in linear time."""
    return _many_marks().sub(lambda run: run[0][:_MARKS_IN_A_ROW], text)


def tokenize(texts: Iterable[str]) -> list[str]:
    """The different words of `texts` in order of appearance.

    A word is a longest run of letters and digits after Unicode NFKC normalisation and case folding, so
    scripts that are written without spaces give one word per run. Of more than 30 combining marks in a row
    the first 30 count. Takes time in proportion to the texts' length.
    """
    found: dict[str, None] = {}
    for text in texts:
        bounded = text if text.isascii() else leave_out_marks(text)
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", bounded).casefold())
        found.update(dict.fromkeys(_WORD.findall(folded)))
    return list(found)


def terms_of(value: object, kind: FieldType) -> list[str]:
    """Return the terms that a text or bool field is found by; a list's elements are taken together."""
    elements = value if isinstance(value, (list, tuple)) else [value]
    if kind is FieldType.TEXT:
        return tokenize(element for element in elements if isinstance(element, str))
    return [bool_term(element) for element in elements if isinstance(element, bool)]


def bool_term(value: bool) -> str:
    """The term that stands for a bool."""
    return "true" if value else "false"
