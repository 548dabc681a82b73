"""Payload fields as engines address and index them: paths in a stored point, and terms of texts and bools.

Engines address payload by a JSON path in which a quoted key may hold every character but the quote
itself. So the quote (and the escape character) is written as a percent code, in stored keys and in
paths alike, and all other characters stay readable.

Terms are what filters on some fields look for instead of the value: the words of a text (see `words`), and
"true" or "false" for a bool, because Qdrant Edge 0.9 takes a bool in a filter for the number 0 or 1."""

from __future__ import annotations

from cir.fields import FieldType
from vector_store.words import index_terms

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


def terms_of(value: object, kind: FieldType) -> list[str]:
    """Return the terms that a text or bool field is found by; a list's elements are taken together."""
    elements = value if isinstance(value, (list, tuple)) else [value]
    if kind is FieldType.TEXT:
        return index_terms(element for element in elements if isinstance(element, str))
    return [bool_term(element) for element in elements if isinstance(element, bool)]


def bool_term(value: bool) -> str:
    """The term that stands for a bool."""
    return "true" if value else "false"
