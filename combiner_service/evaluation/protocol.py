"""How a number was measured. Recalls of different protocols cannot be compared, so each is printed with its
own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from combiner_service.captions import Joining


class Gallery(StrEnum):
    """What a query is answered from."""

    ORIGINAL = "original"
    """Every image that the split lists."""
    VAL = "val"
    """References and targets of the split's own queries: smaller, so that recalls are higher."""


class Reference(StrEnum):
    """Whether the reference image may be among the answers."""

    KEEP = "keep"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Protocol:
    """The choices that change a number without changing a combiner."""

    dataset: str
    gallery: Gallery
    reference: Reference
    captions: Joining

    @property
    def text(self) -> str:
        """On one line, for tables and checkpoints."""
        return (
            f"{self.dataset}; gallery={self.gallery}; reference={self.reference}; captions={self.captions}; "
            "ties by gallery order"
        )


#: As published: FashionIQ keeps the reference in the ranking, CIRR takes it out. For data sets of one's own
#: the reference is no answer either.
PUBLISHED_REFERENCE = {"fashioniq": Reference.KEEP, "cirr": Reference.DROP}


def protocol_for(
    dataset: str,
    *,
    gallery: Gallery | None = None,
    reference: Reference | None = None,
    captions: Joining | None = None,
) -> Protocol:
    """The published protocol of a data set, with what is chosen otherwise."""
    return Protocol(
        dataset,
        gallery or Gallery.ORIGINAL,
        reference or PUBLISHED_REFERENCE.get(dataset, Reference.DROP),
        captions or Joining.AND,
    )
