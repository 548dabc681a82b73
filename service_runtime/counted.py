"""Counts in sentences for people."""

from __future__ import annotations


def counted(count: int, one: str, many: str) -> str:
    """Return a count with the words that go with it: `one` with 1, `many` with all others."""
    return f"{count} {one if count == 1 else many}"
