"""What became of an item since the version that is built upon. The words are those of reports."""

from __future__ import annotations

from enum import StrEnum


class Change(StrEnum):
    """NEW and CHANGED items are encoded, the others keep their features. CARRIED ones the source lacks."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    RENAMED = "renamed"
    PAYLOAD = "payload_only"
    CARRIED = "carried"

    @property
    def encoded(self) -> bool:
        """Whether the picture had to be encoded."""
        return self in (Change.NEW, Change.CHANGED)
