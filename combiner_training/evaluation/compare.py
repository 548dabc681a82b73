"""All baselines and any number of networks on one data set, next to the results that others reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from combiner_service.builtin import SlerpCombiner, SumCombiner, named_combiners
from combiner_service.combiner import (
    Combined,
    Combiner,
    CombinerInfo,
    Float32,
    constant_weight,
    slerp,
    unit_rows,
)
from combiner_training.evaluation.evaluate import Evaluation, evaluate
from combiner_training.evaluation.load_combiner import GetSentences, no_sentences, readable
from combiner_training.evaluation.protocol import Protocol, selection_rules
from combiner_training.evaluation.queries import EvaluationQueries
from combiner_training.evaluation.sentences import Evaluated
from combiner_training.options import OptionError
from combiner_training.progress import Progress

_SURVEY = "comparison table of a survey of composed image retrieval"
# The survey files these rows under the VAL split; the released code evaluates on the original one.
_FASHIONIQ = "FashionIQ val; gallery not certain (original in the released code, VAL split in the survey)"
_CIRR = "CIRR test1; reference dropped; test server"


@dataclass(frozen=True, slots=True)
class ReportedRow:
    """A system's numbers as somebody printed them."""

    system: str
    metrics: Mapping[str, float]
    source: str
    protocol: str


_ROWS: dict[str, tuple[ReportedRow, ...]] = {
    "fashioniq": (
        ReportedRow(
            "Combiner, frozen CLIP (CVPR 2022 demo)",
            {"recall@10": 0.3539, "recall@50": 0.5903},
            _SURVEY,
            _FASHIONIQ,
        ),
        ReportedRow(
            "Combiner, text encoder tuned (CVPRW O-DRUM 2022), RN50x4",
            {"recall@10": 0.3832, "recall@50": 0.6174},
            _SURVEY,
            _FASHIONIQ,
        ),
        ReportedRow(
            "Combiner, both encoders tuned (TOMM 2023), RN50x4",
            {"recall@10": 0.4378, "recall@50": 0.6693},
            _SURVEY,
            _FASHIONIQ,
        ),
    ),
    "cirr": (
        ReportedRow(
            "Combiner, frozen CLIP (CVPR 2022 demo), RN50x4",
            {"recall@1": 0.3359, "recall@5": 0.6535, "recall@10": 0.7735, "recall@50": 0.9521},
            _SURVEY,
            _CIRR,
        ),
        ReportedRow(
            "Combiner, text encoder tuned (CVPRW O-DRUM 2022), RN50x4",
            {"recall@1": 0.3853, "recall@5": 0.6998, "recall@10": 0.8186, "recall@50": 0.9593},
            _SURVEY,
            _CIRR,
        ),
        ReportedRow(
            "Combiner, both encoders tuned (TOMM 2023), RN50x4",
            {"recall@1": 0.4482, "recall@5": 0.7704, "recall@10": 0.8665, "recall@50": 0.9790},
            _SURVEY,
            _CIRR,
        ),
    ),
}


def reported_rows(dataset: str) -> tuple[ReportedRow, ...]:
    """Return the reported results for a data set; none for data sets of one's own."""
    return _ROWS.get(dataset, ())


#: Text weights that the fixed mixes are tried with.
WEIGHTS = tuple(round(0.1 * step, 1) for step in range(1, 10))


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One combiner's evaluation; `note` says what is particular about it."""

    combiner: str
    evaluation: Evaluation
    note: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything on one data set under one protocol, and what others published for it."""

    protocol: Protocol
    rows: tuple[ComparedRow, ...]
    reported: tuple[ReportedRow, ...]

    def document(self) -> dict[str, object]:
        """For JSON: `{"dataset", "protocol", "counts", "notes", "rows": [{"combiner", "recall@1", ...}],
        "published"}`."""
        evaluation = self.rows[0].evaluation.document()
        return {
            "dataset": self.protocol.dataset,
            "protocol": self.protocol.text,
            "counts": evaluation["counts"],
            "notes": evaluation["notes"],
            "rows": [
                {
                    "combiner": row.combiner,
                    **_rounded(row.evaluation.metrics),
                    "parts": {name: _rounded(part) for name, part in row.evaluation.parts.items()},
                    "note": row.note,
                }
                for row in self.rows
            ],
            "published": [
                {"combiner": row.system, **row.metrics, "source": row.source, "protocol": row.protocol}
                for row in self.reported
            ],
        }


def compare(
    networks: Sequence[Evaluated],
    parts: Sequence[EvaluationQueries],
    protocol: Protocol,
    *,
    sentences: GetSentences = no_sentences,
    progress: Progress | None = None,
) -> Comparison:
    """Evaluate every baseline, the fixed mixes and the networks, in this order; `progress` sees each.

    The mixes stand after the sum and after slerp: sums of raw and of unit vectors, and slerp. Each takes the
    text weight of `WEIGHTS` that does best on these very queries, which flatters it a little.

    Raises:
        EvaluationError: A combiner refuses the features, or no query can be answered.
    """
    rows: list[ComparedRow] = []

    def add(row: ComparedRow) -> None:
        rows.append(row)
        if progress is not None:
            progress.advance(len(rows), row.combiner)

    combiners = (*baselines(sentences), *networks)
    if progress is not None:
        progress.start("combiners", len(combiners) + sum(len(_mixes_after(one)) for one in combiners))
    for combiner in combiners:
        add(ComparedRow(combiner.info.name, evaluate(combiner, parts, protocol)))
        for name, mix in _mixes_after(combiner).items():
            add(_best_weight(name, mix, parts, protocol))
    return Comparison(protocol, tuple(rows), reported_rows(protocol.dataset))


def rows_always() -> tuple[str, ...]:
    """Return the names of the rows that stand in every comparison."""
    mixes = (name for one in named_combiners().values() for name in _mixes_after(one))
    return (*named_combiners(), *mixes)


def row_names(choices: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Return a name for each checkpoint that no other row has: of its file, with as many folders as it takes.

    Names that are no files, such as joint/NAME, stay as they are.

    Raises:
        OptionError: Two are the same, or one stands in every comparison anyhow.
    """
    paths = [Path(choice).resolve() if Path(choice).is_file() else None for choice in choices]
    for at, choice in enumerate(choices):
        if paths[at] is None and choice in taken:
            raise OptionError(f"{choice} stands in every comparison; leave it out")
        if any(
            choice == other or (paths[at] and paths[at] == paths[n]) for n, other in enumerate(choices[:at])
        ):
            raise OptionError(f"{choice} is there twice; name it once")

    def name(at: int, folders: int) -> str:
        path = paths[at]
        if path is None:
            return choices[at]
        parts = path.parts[1:]
        # The ending tells files apart that differ in nothing else.
        last = path.stem if folders < len(parts) else path.name
        return "/".join((*parts[max(0, len(parts) - 1 - folders) : -1], last))

    names = [name(at, 0) for at in range(len(choices))]
    folders = [0] * len(choices)
    while again := [
        at
        for at, each in enumerate(names)
        if paths[at] is not None and (each in taken or names.count(each) > 1) and each != str(paths[at])[1:]
    ]:
        for at in again:
            folders[at] += 1
            names[at] = name(at, folders[at])
    return names


def baselines(sentences: GetSentences = no_sentences) -> list[Evaluated]:
    """Return every composer without a checkpoint, those that take no text weight first.

    Raises:
        EvaluationError: One needs the text tower, and `sentences` gives none.
    """
    found = [readable(composer, sentences) for composer in named_combiners().values()]
    return sorted(found, key=lambda composer: composer.info.takes_text_weight)


class WeightedSum(Combiner):
    """unit((1 - w) * image + w * text) on raw features, for one w."""

    def __init__(self, weight: float) -> None:
        super().__init__(
            CombinerInfo("weighted_sum", "Weighted sum of raw features.", takes_text_weight=False)
        )
        self._weight = weight

    def _combine(self, image_features: Float32, text_features: Float32) -> Combined:
        image, text = image_features.astype(np.float64), text_features.astype(np.float64)
        return constant_weight(unit_rows((1 - self._weight) * image + self._weight * text), self._weight)


class UnitSum(Combiner):
    """unit((1 - w) * unit(image) + w * unit(text)), for one w: the lengths of features play no part."""

    def __init__(self, weight: float) -> None:
        super().__init__(CombinerInfo("unit_sum", "Weighted sum of unit vectors.", takes_text_weight=False))
        self._weight = weight

    def _combine(self, image_features: Float32, text_features: Float32) -> Combined:
        image = unit_rows(image_features).astype(np.float64)
        text = unit_rows(text_features).astype(np.float64)
        return constant_weight(unit_rows((1 - self._weight) * image + self._weight * text), self._weight)


class FixedSlerp(Combiner):
    """Slerp at one weight."""

    def __init__(self, weight: float) -> None:
        super().__init__(CombinerInfo("best_slerp", "Slerp at one weight.", takes_text_weight=False))
        self._weight = weight

    def _combine(self, image_features: Float32, text_features: Float32) -> Combined:
        vectors = slerp(unit_rows(image_features), unit_rows(text_features), self._weight)
        return constant_weight(vectors, self._weight)


def _mixes_after(combiner: object) -> Mapping[str, Callable[[float], Combiner]]:
    """Return the mixes that stand after a combiner, by the name of their row."""
    if isinstance(combiner, SumCombiner):
        return {"weighted_sum": WeightedSum, "unit_sum": UnitSum}
    return {"best_slerp": FixedSlerp} if isinstance(combiner, SlerpCombiner) else {}


def _best_weight(
    name: str,
    mix: Callable[[float], Combiner],
    parts: Sequence[EvaluationQueries],
    protocol: Protocol,
) -> ComparedRow:
    rule = next(iter(selection_rules(protocol.dataset).values()))
    tried = {weight: evaluate(mix(weight), parts, protocol) for weight in WEIGHTS}
    best = max(tried, key=lambda weight: rule(tried[weight].metrics))
    return ComparedRow(name, tried[best], f"text weight {best}, the best of {len(WEIGHTS)} on these queries")


def _rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in metrics.items()}
