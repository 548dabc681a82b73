"""Version ids: `v0001`, `v0002`, ... which sort by age as text."""

from __future__ import annotations

import re
from collections.abc import Iterable

_VERSION = re.compile(r"v(\d{4})")
_LAST = 9999


def is_version_name(name: str) -> bool:
    """Whether `name` has the form of a version id (and so is safe as part of a path)."""
    return _VERSION.fullmatch(name) is not None


def next_version(existing: Iterable[str]) -> str:
    """The id after the newest of `existing`; gaps that dropped versions left are not filled."""
    numbers = [int(match[1]) for name in existing if (match := _VERSION.fullmatch(name))]
    number = max(numbers, default=0) + 1
    if number > _LAST:
        raise ValueError(f"a catalog can have {_LAST} versions; start a new catalog")
    return f"v{number:04d}"
