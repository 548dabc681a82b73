"""Rules that every door of the system shares: item ids, names of payload fields, image locations, sizes.

The client, the search service, the store and the indexer check by these functions alone, so that what one of
them takes can be read, searched, changed and deleted through every other. Pure. Each function returns what is
wrong in words that can be shown to a user, or an empty string; the caller adds where the value came from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

# A text of 512 characters always fits.
MAX_ITEM_ID_BYTES = 2048
MAX_FIELD_NAME_CHARACTERS = 128
# Bytes of one item's payload as JSON in UTF-8.
MAX_PAYLOAD_BYTES = 1024 * 1024
# Single values of one item's payload, those of lists included.
MAX_PAYLOAD_VALUES = 10_000
# Bytes of an image's location in UTF-8.
MAX_LOCATION_BYTES = 4096
# Levels of a filter, the outermost one counted.
MAX_FILTER_DEPTH = 8
#: Combiner of calls that name none, where nothing else is set. It takes features of any model and length.
DEFAULT_COMBINER = "slerp"
#: Characters of the words that a filter looks for in a text field.
MAX_FILTER_TEXT_CHARACTERS = 1000

# Unicode's control characters (category Cc).
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Halves of a surrogate pair, which UTF-8 cannot write.
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def is_text(value: str) -> bool:
    """Return whether a string can be written as UTF-8, that is, holds no lone surrogate."""
    return _SURROGATE.search(value) is None


def item_id_problem(item_id: str) -> str:
    """Return what keeps a text from being an item's id, or an empty string.

    An id is any valid Unicode text of 1 to `MAX_ITEM_ID_BYTES` bytes in UTF-8 without control characters
    (category Cc). Spaces of all kinds, slashes, emoji and invisible format characters are allowed. Two ids
    are equal if and only if their code points are: composed (NFC) and decomposed (NFD) letters differ.
    """
    if not is_text(item_id):
        return "an item id must be valid Unicode"
    size = len(item_id.encode())
    if not 1 <= size <= MAX_ITEM_ID_BYTES:
        return f"an item id has 1 to {MAX_ITEM_ID_BYTES} bytes, this one has {size}"
    if _CONTROL.search(item_id):
        return "an item id has no control characters"
    return ""


def field_name_problem(name: str) -> str:
    """Return what keeps a text from naming a payload field, or an empty string.

    A field name is any valid Unicode text of 1 to `MAX_FIELD_NAME_CHARACTERS` characters without control
    characters.
    """
    if not is_text(name):
        return "a field name must be valid Unicode"
    if not 1 <= len(name) <= MAX_FIELD_NAME_CHARACTERS:
        return f"a field name has 1 to {MAX_FIELD_NAME_CHARACTERS} characters, this one has {len(name)}"
    if _CONTROL.search(name):
        return "a field name has no control characters"
    return ""


def location_problem(location: str) -> str:
    """Return what keeps a text from being an item's image location, or an empty string.

    A location is a path or a URL of at most `MAX_LOCATION_BYTES` bytes in UTF-8, empty where unknown.
    """
    if not is_text(location):
        return "an image location must be valid Unicode"
    if (size := len(location.encode())) > MAX_LOCATION_BYTES:
        return f"an image location has at most {MAX_LOCATION_BYTES} bytes, this one has {size}"
    return ""


def payload_bytes(payload: object) -> int:
    """Return the size of a payload: the bytes of its JSON in UTF-8, as the store keeps it."""
    return len(json.dumps(payload, ensure_ascii=False, default=str).encode(errors="replace"))


def payload_values(payload: Mapping[str, object]) -> int:
    """Return the number of single values in a payload: fields, and elements of lists."""
    return sum(1 + (len(value) if isinstance(value, (list, tuple)) else 0) for value in payload.values())


def payload_problem(payload: Mapping[str, object]) -> str:
    """Return a remark on a payload in its stored form that is too large, or an empty string."""
    if (count := payload_values(payload)) > MAX_PAYLOAD_VALUES:
        return (
            f"the payload has {count} fields and elements of lists, at most {MAX_PAYLOAD_VALUES} are allowed"
        )
    if (size := payload_bytes(payload)) > MAX_PAYLOAD_BYTES:
        return f"the payload has {size} bytes as JSON, at most {MAX_PAYLOAD_BYTES} are allowed"
    return ""
