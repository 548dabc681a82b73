"""A combiner by name or by file, checked against the features that it is to combine."""

from __future__ import annotations

from pathlib import Path

from combiner_service.builtin import named_combiners
from combiner_service.checkpoint import inspect_checkpoint
from combiner_service.combiner import Combiner, CombinerInfo
from combiner_service.errors import InvalidCheckpointError
from combiner_training.evaluation.evaluate import EvaluationError
from combiner_training.feature_file import FeatureFolder


def load_combiner(choice: str, features: FeatureFolder, *, device: str = "auto") -> Combiner:
    """Return the combiner of a name (see `named_combiners`), or of the checkpoint at a path.

    A published checkpoint names no model: its dimension alone is checked.

    Raises:
        EvaluationError: `choice` is neither, or a checkpoint of another dimension or of another model.
        InvalidCheckpointError: The file is not a checkpoint that can be used.
        OSError: The file cannot be read.
    """
    named = named_combiners()
    if choice in named:
        return named[choice]
    path = Path(choice)
    if not path.is_file():
        raise EvaluationError(
            f"{choice!r} is neither a combiner ({', '.join(named)}) nor a checkpoint; expected one of both"
        )
    try:
        summary = inspect_checkpoint(path)
    except InvalidCheckpointError as error:
        raise InvalidCheckpointError(f"{path}: {error}") from error
    fingerprint = summary.metadata.model_fingerprint
    if fingerprint not in ("", features.model_fingerprint):
        raise EvaluationError(
            f"{path} was trained on features of model {fingerprint}, these are of "
            f"{features.model_fingerprint}; extract features with its model"
        )
    if summary.sizes.feature_dim != features.dimension:
        raise EvaluationError(
            f"{path} combines features of {summary.sizes.feature_dim} values, these have "
            f"{features.dimension}; extract features with its model"
        )
    info = CombinerInfo(
        path.stem,
        "a checkpoint",
        takes_text_weight=True,
        dimension=features.dimension,
        model_fingerprint=fingerprint,
        metadata=summary.metadata.texts(),
    )
    # Only here: what needs no network does without its runtime.
    from combiner_service.network_loading import LoadOptions, load_network

    return load_network(path, info, LoadOptions(device=device))
