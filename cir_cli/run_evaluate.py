"""Evaluating for commands. Imports what only the extras bring, and a runtime only for a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from combiner_service.builtin import ImageCombiner, TextCombiner
from combiner_service.combiner import Combiner
from combiner_training.captions import Joining
from combiner_training.datasets.base import Dialogue, Split
from combiner_training.datasets.load import Dataset, load_splits, own_dialogues
from combiner_training.datasets.triplets import load_dialogues
from combiner_training.evaluation.circo_submission import circo_submission, write_circo_submission
from combiner_training.evaluation.cirr_submission import cirr_submission, write_submission
from combiner_training.evaluation.compare import Comparison, baselines, compare, row_names, rows_always
from combiner_training.evaluation.evaluate import (
    DialogueEvaluation,
    Evaluation,
    EvaluationError,
    evaluate,
    evaluate_dialogues,
)
from combiner_training.evaluation.load_combiner import GetJoint, GetSentences, load_combiner
from combiner_training.evaluation.protocol import Gallery, Protocol, Reference, protocol_for
from combiner_training.evaluation.queries import EvaluationQueries, evaluation_queries, gallery_of
from combiner_training.evaluation.sentences import Evaluated, ReadJoint, Sentences
from combiner_training.feature_file import FeatureFolder, open_folder
from combiner_training.options import OptionError
from combiner_training.progress import Progress

if TYPE_CHECKING:
    from cir_cli.embedding_backends import LocalModel


class Readers(NamedTuple):
    """Loaders of what the embedder's composers read with."""

    sentences: GetSentences
    joint: GetJoint


@dataclass(frozen=True, slots=True)
class Experiment:
    """The experiment that the options of a command name: a data set, its features, and how to measure."""

    dataset: str
    root: Path
    features: Path
    categories: Sequence[str] = ()
    gallery: str = "original"
    reference: str = ""
    captions: str = "and"
    dialogues: Path | None = None
    model: str = ""
    pretrained: str = ""

    def splits(self, name: str | None) -> tuple[Split, ...]:
        """The parts of a split; None is val, and of GeneCIS every task.

        Raises:
            DatasetError: the data set cannot be read.
        """
        return load_splits(
            Dataset(self.dataset), self.root, name or self.default_split, categories=self.categories
        )

    @property
    def default_split(self) -> str | None:
        """The split that is measured where none is named."""
        return None if self.dataset == Dataset.GENECIS else "val"

    @property
    def protocol(self) -> Protocol:
        """The way it is measured."""
        return protocol_for(
            self.dataset,
            gallery=Gallery(self.gallery),
            reference=Reference(self.reference) if self.reference else None,
            captions=Joining(self.captions),
        )

    def queries(self, splits: Sequence[Split], features: FeatureFolder) -> list[EvaluationQueries]:
        """The queries of each part, as evaluating needs them.

        Raises:
            OptionError: captions are joined in a way of one's own, and no query has two.
            FeatureFileError: features are missing or damaged.
        """
        single = all(len(query.texts) == 1 for part in splits for query in part.queries)
        if single and Joining(self.captions) is not Joining.AND:
            raise OptionError(
                f"`captions` {self.captions} says which of several captions are used, and every query of "
                f"{' and '.join(part.name for part in splits)} has one; leave it out"
            )
        return [evaluation_queries(part, features.images, features.texts, self.protocol) for part in splits]

    def check_model(self, combiners: Sequence[Evaluated]) -> None:
        """Refuse a model that nothing would read with.

        Raises:
            OptionError: a model is named, and no combiner needs one.
        """
        if (self.model or self.pretrained) and all(isinstance(each, Combiner) for each in combiners):
            raise OptionError(
                f"`{'model' if self.model else 'pretrained'}` is the model that inversions and joint "
                f"encoders read with, and {combiners[-1].info.name} is neither; leave it out"
            )

    def readers(self, features: FeatureFolder, splits: Sequence[Split] = ()) -> Readers:
        """Return loaders of what inversions and joint encoders read with."""

        @cache
        def model() -> LocalModel:
            # Only here: features alone need no runtime of the model.
            from cir_cli.evaluated_model import load_model

            return load_model(features, self.model, self.pretrained)

        def sentences() -> Sentences:
            return model().embed_prompts

        def joint(name: str) -> ReadJoint:
            from cir_cli.evaluated_model import joint_encoder

            paths = {image: path for split in splits for image, path in split.paths.items()}
            return joint_encoder(model(), name, paths)

        return Readers(sentences, joint)

    def talks(self, split: str | None) -> tuple[Dialogue, ...]:
        """The split's dialogues: those of the file that is named, else of garments their own."""
        if self.dialogues is not None:
            return load_dialogues(self.dialogues, split)
        return own_dialogues(Dataset(self.dataset), self.root, [split] if split else [])


def run_evaluate(
    experiment: Experiment, split: str | None, combiner: str, *, text_weight: float | None, device: str
) -> tuple[Evaluation, tuple[Evaluation, ...], DialogueEvaluation | None]:
    """Evaluate one combiner, image alone and text alone beside it, and it on dialogues where there are some.

    Raises:
        EvaluationError: it cannot be evaluated; errors of data sets and features come as they are.
    """
    features = open_folder(experiment.features)
    splits = experiment.splits(split)
    readers = experiment.readers(features, splits)
    chosen = load_combiner(
        combiner, features, device=device, sentences=readers.sentences, joint=readers.joint
    )
    experiment.check_model([chosen])
    queries = experiment.queries(splits, features)
    evaluation = evaluate(chosen, queries, experiment.protocol, text_weight=text_weight)
    # Many queries of public data sets are answered by one side alone.
    sides = (ImageCombiner(), TextCombiner())
    alone = tuple(evaluate(side, queries, experiment.protocol) for side in sides)
    talks = _on_dialogues(experiment, split, splits, [chosen], features)
    return evaluation, alone, talks[0] if talks else None


def run_compare(
    experiment: Experiment, split: str | None, checkpoints: Sequence[str], *, device: str, progress: Progress
) -> tuple[Comparison, list[DialogueEvaluation]]:
    """Evaluate every baseline and the checkpoints.

    Raises:
        EvaluationError: it cannot be evaluated; errors of data sets and features come as they are.
    """
    features = open_folder(experiment.features)
    splits = experiment.splits(split)
    readers = experiment.readers(features, splits)
    tower = readers.sentences
    networks = [
        load_combiner(path, features, name=name, device=device, sentences=tower, joint=readers.joint)
        for path, name in zip(checkpoints, row_names(checkpoints, rows_always()), strict=True)
    ]
    queries = experiment.queries(splits, features)
    experiment.check_model([*baselines(tower), *networks])
    try:
        comparison = compare(networks, queries, experiment.protocol, sentences=tower, progress=progress)
    finally:
        progress.stop()
    return comparison, _on_dialogues(experiment, split, splits, [*baselines(tower), *networks], features)


def run_cirr_submission(
    experiment: Experiment, split: str, combiner: str, folder: Path, *, device: str
) -> tuple[Path, ...]:
    """Write both files of the test server.

    Raises:
        EvaluationError: it cannot be evaluated; errors of data sets and features come as they are.
    """
    chosen, part, queries = _submitted(experiment, split, combiner, device)
    return write_submission(folder, cirr_submission(chosen, queries), part.queries, part.gallery)


def run_circo_submission(
    experiment: Experiment, split: str, combiner: str, path: Path, *, device: str
) -> Path:
    """Write the file of CIRCO's test server.

    Raises:
        EvaluationError: it cannot be evaluated; errors of data sets and features come as they are.
    """
    chosen, part, queries = _submitted(experiment, split, combiner, device)
    return write_circo_submission(path, circo_submission(chosen, queries), part.queries, part.gallery)


def _on_dialogues(
    experiment: Experiment,
    name: str | None,
    splits: Sequence[Split],
    combiners: Sequence[Evaluated],
    features: FeatureFolder,
) -> list[DialogueEvaluation]:
    """Each combiner on the split's dialogues; nothing where there are none."""
    talks = experiment.talks(name or experiment.default_split)
    if not talks:
        return []
    if len(splits) != 1:
        raise EvaluationError("dialogues are evaluated on one gallery; name one category")
    gallery = gallery_of(splits[0], experiment.protocol.gallery)
    # A joint encoder has no image of a query to go on from.
    able = [combiner for combiner in combiners if not isinstance(combiner, ReadJoint)]
    return [evaluate_dialogues(combiner, talks, gallery, features) for combiner in able]


def _submitted(
    experiment: Experiment, split: str, combiner: str, device: str
) -> tuple[Evaluated, Split, EvaluationQueries]:
    """Return what a submission is made of: the combiner, the split without answers, and its queries."""
    features = open_folder(experiment.features)
    chosen = load_combiner(
        combiner, features, device=device, sentences=experiment.readers(features).sentences
    )
    [part] = experiment.splits(split)
    [queries] = experiment.queries([part], features)
    return chosen, part, queries
