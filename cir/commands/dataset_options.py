"""Options of the commands that work on data sets of composed queries, and how their faults are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cir.failure import Failure


class DatasetName(StrEnum):
    """Layouts that are read; garments are triplets as `cir garments make` writes them."""

    FASHIONIQ = "fashioniq"
    CIRR = "cirr"
    TRIPLETS = "triplets"
    GARMENTS = "garments"


class GalleryName(StrEnum):
    """What queries are answered from."""

    ORIGINAL = "original"
    VAL = "val"


class ReferenceName(StrEnum):
    """Whether the reference may be among the answers."""

    KEEP = "keep"
    DROP = "drop"


class CaptionsName(StrEnum):
    """Which captions of a query are used, and how they are joined."""

    AND = "and"
    REVERSED = "reversed"
    FIRST = "first"
    SECOND = "second"


DatasetOption = Annotated[DatasetName, typer.Option("--dataset", help="Layout of the data set.")]
RootOption = Annotated[
    Path,
    typer.Option("--root", metavar="PATH", help="The data set's folder, or a manifest of triplets."),
]
FeaturesOption = Annotated[
    Path, typer.Option("--features", metavar="DIR", help="Folder that cir features extract wrote.")
]
CategoryOption = Annotated[
    list[str] | None,
    typer.Option("--category", help="FashionIQ: only this category; repeatable. Default: all three."),
]
SplitOption = Annotated[str, typer.Option("--split", help="Split whose queries are evaluated.")]
GalleryOption = Annotated[
    GalleryName,
    typer.Option(
        "--gallery", help="original: all images of the split; val: references and targets of its queries."
    ),
]
ReferenceOption = Annotated[
    ReferenceName | None,
    typer.Option(
        "--reference",
        help="Keep the reference in the ranking or drop it; default: as published (FashionIQ keeps it, CIRR "
        "and others drop it).",
    ),
]
CaptionsOption = Annotated[
    CaptionsName,
    typer.Option("--captions", help="How two captions are joined; and: 'Cap1 and cap2', as published."),
]
DialoguesOption = Annotated[
    Path | None,
    typer.Option("--dialogues", metavar="FILE", help="Dialogues (JSON Lines); garments have their own."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]


@contextmanager
def told_as_failures() -> Iterator[None]:
    """Turn the errors of data sets, features, evaluation and training into the one line of a `Failure`."""
    from combiner_service.errors import InvalidCheckpointError

    try:
        yield
    except (ValueError, InvalidCheckpointError) as error:
        # All of them are ValueErrors of their own: DatasetError, FeatureFileError, EvaluationError,
        # TrainingError.
        raise Failure(str(error)) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise Failure(f"{where}{error.strerror or error}") from error
