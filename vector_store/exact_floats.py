"""Floats that come back from a store as they went in. Pure.

Engines keep payloads as JSON and read numbers of more than 15 digits back with an error in the last one
(their indexes hold the number itself). So a document has, besides its data, the text of each field that holds
such a number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from vector_store.payload_index import DATA

EXACT = "exact"

# Decimal digits, and powers of ten, with which every reader of JSON finds the nearest double.
_SAFE_DIGITS = 15
_SAFE_POWERS = 6


def exact_texts(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the JSON of each member of `data` that holds a float which might not come back, by its key."""
    return {key: json.dumps(value) for key, value in data.items() if _is_at_risk(value)}


def restored(data: Mapping[str, Any], texts: object) -> Mapping[str, Any]:
    """Return data as it was written; a member whose text says something else than the member is as it is."""
    if not isinstance(texts, Mapping) or not texts:
        return data
    whole = dict(data)
    for key, text in texts.items():
        try:
            value = json.loads(text)
        except (TypeError, ValueError, RecursionError):
            continue
        if key in whole and _is_near(whole[key], value):
            whole[key] = value
    return whole


def restored_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored document, as an engine read it, with its data as it was written."""
    data = document.get(DATA)
    if not isinstance(data, Mapping):
        return dict(document)
    return {**document, DATA: restored(data, document.get(EXACT))}


def _is_at_risk(value: object) -> bool:
    if isinstance(value, float):
        mantissa, _, power = repr(value).partition("e")
        digits = mantissa.replace("-", "").replace(".", "").lstrip("0")
        return len(digits) > _SAFE_DIGITS or abs(int(power or 0)) > _SAFE_POWERS
    if isinstance(value, Mapping):
        return any(_is_at_risk(element) for element in value.values())
    return isinstance(value, (list, tuple)) and any(_is_at_risk(element) for element in value)


def _is_near(read: object, written: object) -> bool:
    if isinstance(read, (int, float)) and isinstance(written, float):
        return abs(read - written) <= 4 * math.ulp(written)
    if isinstance(read, Mapping) and isinstance(written, Mapping):
        return read.keys() == written.keys() and all(_is_near(read[key], written[key]) for key in written)
    if isinstance(read, (list, tuple)) and isinstance(written, (list, tuple)):
        return len(read) == len(written) and all(map(_is_near, read, written))
    return type(read) is type(written) and read == written
