"""Combiners that are in use for a catalog, and the place where a new one is served from.

A new Combiner is handed over as a file in a folder that the combiner service watches. The file says which
catalog it was made for; one that does not say so was put there by hand, and is never overwritten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cir.composers import ADAPTED_TO, CHECKPOINT_PREFIX
from cir.limits import DEFAULT_COMBINER
from cir_cli.errors import Failure
from combiner_service.checkpoint import (
    ENDINGS,
    SAFETENSORS_ENDING,
    inspect_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from combiner_service.checkpoint_directory import NAME, Signature, signature_of
from combiner_service.errors import InvalidCheckpointError
from combiner_service.network_spec import NetworkSizes
from combiner_training.evaluation.load_combiner import checkpoint_path, load_combiner, shipped_checkpoints
from combiner_training.evaluation.sentences import Evaluated
from combiner_training.feature_file import FeatureFolder
from combiner_training.options import TrainOptions


@dataclass(frozen=True, slots=True)
class Place:
    """Place that a catalog's Combiner is served from, and the file that stood there when it was looked up."""

    path: Path
    signature: Signature | None

    @property
    def combiner(self) -> str:
        """Its name in the combiner service."""
        return f"{CHECKPOINT_PREFIX}{self.path.stem}"


@dataclass(frozen=True, slots=True)
class InUse:
    """The combiner that a new one has to beat, by the name that searches know it by, and its file if any."""

    combiner: Evaluated
    name: str
    file: Path | None = None


def find_place(folder: Path, name: str, catalog: str) -> Place:
    """Return the place for a catalog's Combiner.

    Raises:
        Failure: The name cannot be one, or a file that was put there by hand has it.
    """
    if not NAME.fullmatch(name):
        raise Failure(
            f"{name!r} cannot name a Combiner; give one of letters, digits, '.', '_' and '-' with --name"
        )
    path = folder / f"{name}{SAFETENSORS_ENDING}"
    for ending in ENDINGS:
        other = folder / f"{name}{ending}"
        if not other.exists():
            continue
        try:
            made_for = inspect_checkpoint(other).metadata.extra.get(ADAPTED_TO, "")
        except (InvalidCheckpointError, OSError) as error:
            raise Failure(
                f"{other} is in the way and cannot be read ({error}); move it, or give --name"
            ) from error
        if made_for != catalog:
            by = f"made for the catalog {made_for!r}" if made_for else "put there by hand"
            raise Failure(
                f"{other} was {by} and is not overwritten; move it, or give another name with --name"
            )
    return Place(path, signature_of(path) if path.exists() else None)


def combiner_in_use(choice: str, place: Place, features: FeatureFolder) -> InUse:
    """Return the combiner that a new one has to beat.

    `choice` is a name or a file; without one it is the catalog's own of an earlier run, else the shipped one
    where it is of the same model, else the default.

    Raises:
        EvaluationError: The choice is neither, or of another model.
    """
    if choice:
        combiner, path = load_combiner(choice, features), checkpoint_path(choice)
        return InUse(combiner, choice, path if path.is_file() else None)
    for path in (*((place.path,) if place.signature else ()), *shipped_checkpoints().values()):
        summary = inspect_checkpoint(path)
        same = summary.metadata.model_fingerprint == features.model_fingerprint
        if same and summary.sizes.feature_dim == features.dimension:
            return InUse(load_combiner(str(path), features), f"{CHECKPOINT_PREFIX}{path.stem}", path)
    return InUse(load_combiner(DEFAULT_COMBINER, features), DEFAULT_COMBINER)


def can_begin_with(checkpoint: Path | None, options: TrainOptions, dimension: int) -> bool:
    """Return true for a checkpoint of the sizes that are to be trained."""
    if checkpoint is None:
        return False
    return inspect_checkpoint(checkpoint).sizes == NetworkSizes(
        dimension, options.projection_dim, options.hidden_dim
    )


def hand_over(checkpoint: Path, place: Place, catalog: str, facts: Mapping[str, str]) -> None:
    """Write a checkpoint to its place, whole or not at all, with what it was made for.

    Raises:
        Failure: The file there is not the one that was compared with, or the place cannot be written.
    """
    now = signature_of(place.path) if place.path.exists() else None
    if now != place.signature:
        raise Failure(
            f"{place.path} has changed since the comparison began and is left as it is; run cir adapt again"
        )
    found = read_checkpoint(checkpoint)
    metadata = replace(found.metadata, extra={**found.metadata.extra, ADAPTED_TO: catalog, **facts})
    try:
        place.path.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(place.path, found.weights, metadata)
    except OSError as error:
        raise Failure(f"{place.path} cannot be written: {error.strerror or error}") from error
