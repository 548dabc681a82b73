"""Numbers that others published, to stand beside one's own, each with its source and protocol.

Recalls between 0 and 1. Where a number was measured under another protocol than one's own, it cannot be
compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_SURVEY = "comparison table of a survey of composed image retrieval"
# The survey files these rows under the VAL split; the released code evaluates on the original one.
_FASHIONIQ = "FashionIQ val; gallery not certain (original in the released code, VAL split in the survey)"
_CIRR = "CIRR test1; reference dropped; test server"


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A system's numbers as somebody printed them."""

    system: str
    metrics: Mapping[str, float]
    source: str
    protocol: str


_ROWS: dict[str, tuple[PublishedRow, ...]] = {
    "fashioniq": (
        PublishedRow(
            "Combiner, frozen CLIP (CVPR 2022 demo)",
            {"recall@10": 0.3539, "recall@50": 0.5903},
            _SURVEY,
            _FASHIONIQ,
        ),
        PublishedRow(
            "Combiner, text encoder tuned (CVPRW O-DRUM 2022), RN50x4",
            {"recall@10": 0.3832, "recall@50": 0.6174},
            _SURVEY,
            _FASHIONIQ,
        ),
        PublishedRow(
            "Combiner, both encoders tuned (TOMM 2023), RN50x4",
            {"recall@10": 0.4378, "recall@50": 0.6693},
            _SURVEY,
            _FASHIONIQ,
        ),
    ),
    "cirr": (
        PublishedRow(
            "Combiner, frozen CLIP (CVPR 2022 demo), RN50x4",
            {"recall@1": 0.3359, "recall@5": 0.6535, "recall@10": 0.7735, "recall@50": 0.9521},
            _SURVEY,
            _CIRR,
        ),
        PublishedRow(
            "Combiner, text encoder tuned (CVPRW O-DRUM 2022), RN50x4",
            {"recall@1": 0.3853, "recall@5": 0.6998, "recall@10": 0.8186, "recall@50": 0.9593},
            _SURVEY,
            _CIRR,
        ),
        PublishedRow(
            "Combiner, both encoders tuned (TOMM 2023), RN50x4",
            {"recall@1": 0.4482, "recall@5": 0.7704, "recall@10": 0.8665, "recall@50": 0.9790},
            _SURVEY,
            _CIRR,
        ),
    ),
}


def published_rows(dataset: str) -> tuple[PublishedRow, ...]:
    """What is known for a data set; nothing for one's own."""
    return _ROWS.get(dataset, ())
