"""By which number the best checkpoint of a training is chosen, for each data set. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from combiner_service.evaluation.metrics import arithmetic_mean, geometric_mean, harmonic_mean

Metrics = Mapping[str, float]
Rule = Callable[[Metrics], float]

_CIRR = (
    *(f"recall@{k}" for k in (1, 5, 10, 50)),
    *(f"recall_subset@{k}" for k in (1, 2, 3)),
)


def selection_rules(dataset: str) -> dict[str, Rule]:
    """Rule by the name of the checkpoint that it chooses; the first decides on stopping early.

    FashionIQ: the average of mean R@10 and mean R@50. CIRR: the arithmetic, harmonic and geometric mean of
    the seven recalls, a file each. Both as in the method's released code. Data sets of one's own: the average
    of R@1 and R@10.
    """
    if dataset == "fashioniq":
        return {"best": _mean_of(arithmetic_mean, "recall@10", "recall@50")}
    if dataset == "cirr":
        return {
            "best-arithmetic": _mean_of(arithmetic_mean, *_CIRR),
            "best-harmonic": _mean_of(harmonic_mean, *_CIRR),
            "best-geometric": _mean_of(geometric_mean, *_CIRR),
        }
    return {"best": _mean_of(arithmetic_mean, "recall@1", "recall@10")}


def _mean_of(mean: Callable[[list[float]], float], *names: str) -> Rule:
    return lambda metrics: mean([metrics[name] for name in names])
