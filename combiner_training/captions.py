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


# Words that name nothing that is seen: articles, prepositions, conjunctions, pronouns, forms of be and have.
_LISTED = """
    a an the this that these those and or but nor of in on at by with without for from to into onto over
    under as is are was were be been being it its it's there here has have had he she they we you i his her
    their our your my who which not no
"""
_FUNCTION_WORDS = frozenset(_LISTED.split())


def content_runs(caption: str) -> list[tuple[str, bool]]:
    """Cut a caption into runs of words, and say of each whether it names what is seen.

    English nouns and adjectives are told from function words by a list of the latter; in other languages the
    whole caption is one run.
    """
    runs: list[tuple[list[str], bool]] = []
    for word in caption.split():
        is_content = word.lower().strip(_ENDS + ";:!\"'()") not in _FUNCTION_WORDS
        if not runs or runs[-1][1] is not is_content:
            runs.append(([], is_content))
        runs[-1][0].append(word)
    return [(" ".join(words), is_content) for words, is_content in runs]
