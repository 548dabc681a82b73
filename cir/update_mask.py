"""Paths of update masks (AIP-134, AIP-161): what of an item a change is for. Pure.

There are "payload", "image" and "payload.fields.NAME". NAME is the user's own and taken as it stands, in
backticks where it is more than letters, digits and '_', with each backtick in it written twice.
"""

from __future__ import annotations

import re

from cir.errors import InvalidArgument
from cir.limits import field_name_problem

#: Paths of one mask.
MAX_PATHS = 256
# Possessive, or matching would note each character.
_FIELD_PATH = re.compile(r"payload\.fields\.(?:(\w+)|`((?:[^`]|``)++)`)", re.ASCII)


def payload_path(field: str) -> str:
    """Return the path of one payload field.

    Raises:
        InvalidArgument: no field can have this name.
    """
    if problem := field_name_problem(field):
        raise InvalidArgument(f"{field!a:.200}: {problem}", reason="FIELD_INVALID", field="update_mask")
    if re.fullmatch(r"\w+", field, re.ASCII):
        return f"payload.fields.{field}"
    quoted = field.replace("`", "``")
    return f"payload.fields.`{quoted}`"


def payload_field(path: str) -> str | None:
    """Return the payload field that a path names; None for "payload" and "image".

    Raises:
        ValueError: there is no such path.
    """
    if path in ("payload", "image"):
        return None
    named = _FIELD_PATH.fullmatch(path)
    if named is None:
        raise ValueError(
            f"has the path {path[:200]!r}; expected payload, payload.fields.NAME or image, NAME in backticks "
            "where it is more than letters, digits and '_' (vectors are changed by BatchUpsertItems)"
        )
    name = named[1] or named[2].replace("``", "`")
    if problem := field_name_problem(name):
        raise ValueError(f"has the path {path[:200]!r}: {problem}")
    return name
