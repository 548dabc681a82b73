"""A combiner by name or by file, checked against the features that it is to combine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cir.composers import CHECKPOINT_PREFIX, JOINT_PREFIX
from combiner_service.builtin import named_combiners
from combiner_service.checkpoint import SAFETENSORS_ENDING, inspect_checkpoint
from combiner_service.checkpoint_directory import checkpoint_info
from combiner_service.combiner import Combiner, Composer
from combiner_service.errors import InvalidCheckpointError
from combiner_service.inversion import Inversion
from combiner_service.settings import SHIPPED_CHECKPOINTS
from combiner_training.evaluation.evaluate import EvaluationError
from combiner_training.evaluation.sentences import Evaluated, ReadInversion, ReadJoint, Sentences
from combiner_training.feature_file import FeatureFolder

#: Gives the text tower that reads sentences, where there is an inversion to be evaluated.
GetSentences = Callable[[], Sentences]
GetJoint = Callable[[str], ReadJoint]


def no_sentences() -> Sentences:
    """Refuse to read sentences.

    Raises:
        EvaluationError: Always.
    """
    raise EvaluationError("an inversion needs the text tower of its model, and no model was named")


def readable(composer: Composer, sentences: GetSentences) -> Evaluated:
    """Return a composer as it is evaluated: an inversion with the text tower.

    Raises:
        EvaluationError: It needs the text tower, and `sentences` gives none.
    """
    if isinstance(composer, Inversion):
        return ReadInversion(composer, sentences())
    assert isinstance(composer, Combiner)  # noqa: S101  # there are two kinds
    return composer


def checkpoint_path(choice: str) -> Path:
    """Return the path of a checkpoint: that of a shipped one for `combiner/NAME`, else `choice` itself.

    A file of that very path goes before a shipped one.

    Raises:
        EvaluationError: None of that name ships.
    """
    path = Path(choice)
    if path.is_file() or not choice.startswith(CHECKPOINT_PREFIX):
        return path
    shipped = shipped_checkpoints()
    if choice not in shipped:
        raise EvaluationError(
            f"no {choice} ships, there is {', '.join(shipped_names())}; give the file of a checkpoint"
        )
    return shipped[choice]


def shipped_checkpoints() -> dict[str, Path]:
    """Return the paths of the checkpoints that ship, by the names that searches know them by, in order."""
    found = sorted(SHIPPED_CHECKPOINTS.glob(f"*{SAFETENSORS_ENDING}"))
    return {f"{CHECKPOINT_PREFIX}{path.stem}": path for path in found}


def shipped_names() -> tuple[str, ...]:
    """Return the names of what is no formula: shipped checkpoints, and joint encoders."""
    return (*shipped_checkpoints(), f"{JOINT_PREFIX}NAME")


def load_combiner(
    choice: str,
    features: FeatureFolder,
    *,
    name: str = "",
    device: str = "auto",
    sentences: GetSentences = no_sentences,
    joint: GetJoint | None = None,
) -> Evaluated:
    """Return the composer of a name (see `named_combiners`), or of the checkpoint at a path or of the shipped
    one that `combiner/NAME` names.

    `name` is what a checkpoint is called in results, the name of its file unless given. `joint` gives the
    joint encoder of a name, where the images that it reads are known.

    A published checkpoint names no model: its dimension alone is checked.

    Raises:
        EvaluationError: `choice` is neither, or a checkpoint of another dimension or of another model; or it
            is an inversion, and `sentences` gives no text tower.
        InvalidCheckpointError: The file is not a checkpoint that can be used.
        OSError: The file cannot be read.
    """
    if choice.startswith(JOINT_PREFIX):
        if joint is None:
            raise EvaluationError(f"{choice} reads images themselves, and none are at hand here")
        return joint(choice)
    named = named_combiners()
    if choice in named:
        return readable(named[choice], sentences)
    path = checkpoint_path(choice)
    if not path.is_file():
        if path.suffix or len(path.parts) > 1:
            raise EvaluationError(f"{path} does not exist; expected a checkpoint there")
        raise EvaluationError(
            f"{choice!r} is neither a combiner ({', '.join((*named, *shipped_names()))}) nor a checkpoint; "
            "expected one of both"
        )
    try:
        summary = inspect_checkpoint(path)
    except InvalidCheckpointError as error:
        raise InvalidCheckpointError(f"{path}: {error}") from error
    fingerprint = summary.metadata.model_fingerprint
    if fingerprint not in ("", features.model_fingerprint):
        raise EvaluationError(
            f"{path} was trained on features of model {fingerprint}, these are of "
            f"{features.model_fingerprint or 'an unknown model'}; extract features with its model"
        )
    if summary.sizes.feature_dim != features.dimension:
        raise EvaluationError(
            f"{path} combines features of {summary.sizes.feature_dim} values, these have "
            f"{features.dimension}; extract features with its model"
        )
    info = checkpoint_info(name or path.stem, summary, fingerprint)
    # Only here: what needs no network does without its runtime.
    from combiner_service.network_loading import LoadOptions, load_composer

    return readable(load_composer(path, info, LoadOptions(device=device)), sentences)
