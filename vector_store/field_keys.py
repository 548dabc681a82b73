"""Where a payload field lives in a stored point, for any field name a user may choose.

Engines address payload by a JSON path in which a quoted key may hold every character but the quote
itself. So the quote (and the escape character) is written as a percent code, in stored keys and in
paths alike, and all other characters stay readable.
"""

from __future__ import annotations

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
