"""Captions of one query, joined to the text that is embedded. Pure.

FashionIQ has two captions for each query. How they are joined changes recalls by several points, so it is
part of every protocol. The rules are those of the method's released code: each caption loses the characters
'.?, ' at both ends, and the one that comes first is capitalised (which lowers the case of its rest).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

_ENDS = ".?, "


class Joining(StrEnum):
    """Captions of a query that are used, in their order. A single caption is used as it is, always."""

    AND = "and"
    """ "Cap1 and cap2": the published evaluation."""
    REVERSED = "reversed"
    """ "Cap2 and cap1"."""
    FIRST = "first"
    """ "Cap1"."""
    SECOND = "second"
    """ "Cap2"."""


def joined(captions: Sequence[str], joining: Joining = Joining.AND) -> str:
    """Return the text of a query.

    Raises:
        ValueError: There is no caption.
    """
    if not captions:
        raise ValueError("a query has no caption; expected at least one")
    if len(captions) == 1:
        return captions[0]
    chosen = {
        Joining.AND: captions,
        Joining.REVERSED: captions[::-1],
        Joining.FIRST: captions[:1],
        Joining.SECOND: captions[1:2],
    }[joining]
    first, *rest = (caption.strip(_ENDS) for caption in chosen)
    return " and ".join([first.capitalize(), *rest])


def training_texts(captions: Sequence[str]) -> tuple[str, ...]:
    """The texts of which training takes one at random, each as likely as the others.

    For two captions the published four: "Cap1 and cap2", "Cap2 and cap1", "Cap1", "Cap2".
    """
    if len(captions) == 1:
        return (captions[0],)
    return tuple(joined(captions, joining) for joining in Joining)
