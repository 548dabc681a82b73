"""Protocols of the data sets: gallery, reference, texts, and the scores that choose a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from combiner_training.captions import Joining
from combiner_training.evaluation.metrics import arithmetic_mean, geometric_mean, harmonic_mean
from combiner_training.options import OptionError


class Gallery(StrEnum):
    """Images that a query is answered from."""

    ORIGINAL = "original"
    """Every image that the split lists."""
    VAL = "val"
    """References, targets and groups of the split's own queries: smaller, so that recalls are higher."""


class Reference(StrEnum):
    """Treatment of the reference image among the answers."""

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
        """The protocol on one line, for tables and checkpoints."""
        return (
            f"{self.dataset}; gallery={self.gallery}; reference={self.reference}; captions={self.captions}; "
            "ties by gallery order"
        )


#: As published: FashionIQ and CIRCO keep the reference in the ranking, CIRR takes it out. For data sets
#: of one's own the reference is not an answer either.
PUBLISHED_REFERENCE = {
    "fashioniq": Reference.KEEP,
    "cirr": Reference.DROP,
    "circo": Reference.KEEP,
}


def protocol_for(
    dataset: str,
    *,
    gallery: Gallery | None = None,
    reference: Reference | None = None,
    captions: Joining | None = None,
) -> Protocol:
    """The published protocol of a data set, with what is chosen otherwise.

    Raises:
        OptionError: GeneCIS is to be answered from another gallery, or with the reference.
    """
    if dataset == "genecis" and (gallery is Gallery.VAL or reference is Reference.KEEP):
        chosen = f"`gallery` {gallery}" if gallery is Gallery.VAL else f"`reference` {reference}"
        raise OptionError(
            f"{chosen} is not of GeneCIS, whose queries have galleries of their own; leave it out"
        )
    return Protocol(
        dataset,
        gallery or Gallery.ORIGINAL,
        reference or PUBLISHED_REFERENCE.get(dataset, Reference.DROP),
        captions or Joining.AND,
    )


Metrics = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Rule:
    """Score of an evaluation that chooses a checkpoint: a mean of some metrics, which `text` names."""

    text: str
    mean: Callable[[list[float]], float]
    metrics: tuple[str, ...]

    def __call__(self, metrics: Metrics) -> float:
        """Return the score."""
        return self.mean([metrics[name] for name in self.metrics])


_CIRR = (
    *(f"recall@{k}" for k in (1, 5, 10, 50)),
    *(f"recall_subset@{k}" for k in (1, 2, 3)),
)


_ONE_METRIC = {"circo": ("mAP@5", "map@5"), "genecis": ("Rs@1", "recall_subset@1")}


def selection_rules(dataset: str) -> dict[str, Rule]:
    """Rule by the name of the checkpoint that it chooses; the first decides on stopping early.

    FashionIQ: the average of mean R@10 and mean R@50. CIRR: the arithmetic, harmonic and geometric mean of
    the seven recalls, a file each. Both as in the method's released code. CIRCO: mAP@5; GeneCIS: R@1 in the
    query's own gallery. Data sets of one's own: the average
    of R@1 and R@10.
    """
    if dataset == "fashioniq":
        return {"best": Rule("mean of R@10 and R@50", arithmetic_mean, ("recall@10", "recall@50"))}
    if dataset == "cirr":
        return {
            "best-arithmetic": Rule("arithmetic mean of seven recalls", arithmetic_mean, _CIRR),
            "best-harmonic": Rule("harmonic mean of seven recalls", harmonic_mean, _CIRR),
            "best-geometric": Rule("geometric mean of seven recalls", geometric_mean, _CIRR),
        }
    if dataset in _ONE_METRIC:
        text, metric = _ONE_METRIC[dataset]
        return {"best": Rule(text, arithmetic_mean, (metric,))}
    return {"best": Rule("mean of R@1 and R@10", arithmetic_mean, ("recall@1", "recall@10"))}
