"""`cir dataset`, and the options by which every command names a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cir_cli.errors import INTERRUPTED, Failure, Reservation, WrongUsage
from cir_cli.options import Json, Quiet
from cir_cli.output import WorkProgress, console, print_json, table

if TYPE_CHECKING:
    from combiner_training.datasets.base import Split
    from combiner_training.datasets.check import SplitReport
    from combiner_training.evaluation.queries import Coverage


class DatasetName(StrEnum):
    """Layouts that are read; garments are triplets as `cir garments make` writes them."""

    FASHIONIQ = "fashioniq"
    CIRR = "cirr"
    CIRCO = "circo"
    GENECIS = "genecis"
    TRIPLETS = "triplets"
    GARMENTS = "garments"


class GalleryName(StrEnum):
    """The images that queries are answered from."""

    ORIGINAL = "original"
    VAL = "val"


class ReferenceName(StrEnum):
    """The treatment of the reference among the answers."""

    KEEP = "keep"
    DROP = "drop"


class CaptionsName(StrEnum):
    """The captions of a query that are used, and the way they are joined."""

    AND = "and"
    REVERSED = "reversed"
    FIRST = "first"
    SECOND = "second"


DATASET = typer.Option("--dataset", help="Layout of the data set.")
ROOT = typer.Option("--root", metavar="PATH", help="The data set's folder, or a manifest of triplets.")
FEATURES = typer.Option("--features", metavar="DIR", help="Folder that cir features extract wrote.")
DatasetOption = Annotated[DatasetName, DATASET]
RootOption = Annotated[Path, ROOT]
FeaturesOption = Annotated[Path, FEATURES]
CategoryOption = Annotated[
    list[str] | None,
    typer.Option("--category", help="FashionIQ: only this category; repeatable. Default: all three."),
]


def reserve(coverage: Coverage) -> None:
    """End an evaluation that is printed and was not of all queries.

    Raises:
        Reservation: Something is missing, or out of every combiner's reach.
    """
    if not coverage.complete:
        raise Reservation(coverage.text)


SplitOption = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="Split whose queries are evaluated. Default: val; of GeneCIS every task that is there.",
    ),
]
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
        help="Keep the reference in the ranking or drop it; default: as published (FashionIQ and CIRCO keep "
        "it, CIRR and others drop it).",
    ),
]
CaptionsOption = Annotated[
    CaptionsName,
    typer.Option("--captions", help="How two captions are joined; and: 'Cap1 and cap2', as published."),
]
DialoguesOption = Annotated[
    Path | None,
    typer.Option(
        "--dialogues",
        metavar="FILE",
        help="Dialogues: JSON Lines, or a .json file of Multi-turn FashionIQ; garments have their own.",
    ),
]


# Groups of the options above in help texts.
DATA_SET = "The data set"
COMBINERS = "What is measured"
IN_GROUPS = {
    DATA_SET: (
        "dataset", "root", "features", "split", "category", "gallery", "reference", "captions", "dialogues",
    ),
    COMBINERS: ("combiner", "device", "model", "pretrained"),
}  # fmt: skip


@contextmanager
def report_errors(interrupted: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Turn the errors of data sets, features, evaluation and training into the one line of a `Failure`.

    `interrupted` says how work goes on that Ctrl-C ended.
    """
    from combiner_service.errors import InvalidCheckpointError
    from combiner_training.options import OptionError

    try:
        yield
    except KeyboardInterrupt:
        advice = interrupted()
        raise Failure(f"interrupted{f'; {advice}' if advice else ''}", exit_code=INTERRUPTED) from None
    except OptionError as error:
        raise WrongUsage(str(error)) from error
    except (ValueError, InvalidCheckpointError) as error:
        # All of them are ValueErrors of their own: DatasetError, FeatureFileError, EvaluationError,
        # TrainingError.
        raise Failure(str(error)) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise Failure(f"{where}{error.strerror or error}") from error


app = typer.Typer(help="Look into data sets of composed queries.", no_args_is_help=True)

_Kind = Annotated[
    DatasetName, typer.Argument(metavar="KIND", help="fashioniq, cirr, circo, genecis, triplets or garments.")
]
_Place = Annotated[
    Path, typer.Argument(metavar="PATH", help="The data set's folder, or a manifest of triplets.")
]
_Splits = Annotated[
    list[str] | None, typer.Option("--split", help="Only this split; repeatable. Default: all there are.")
]


@app.callback()
def _dataset() -> None:
    pass


@app.command("check")
def check(
    kind: _Kind,
    path: _Place,
    split: _Splits = None,
    category: CategoryOption = None,
    decode: Annotated[
        bool,
        typer.Option("--decode/--no-decode", help="Read every image wholly, or only see that it is there."),
    ] = True,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Images read at a time.")] = 2,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Count a data set's queries and images, and say which cannot be used.

    Exit code 0: all images can be read and all queries answered; 3: some cannot; 1: the annotation itself
    cannot be read.
    """
    # Only here: no other command has a use for it.
    from combiner_training.datasets.check import check_images, make_report, report_document
    from combiner_training.datasets.load import Dataset, splits_without_captions
    from combiner_training.evaluation.protocol import Reference, protocol_for

    with report_errors():
        splits = _splits(kind, path, split or (), category or ())
        bare = () if split else splits_without_captions(Dataset(kind.value), path)
    files = sorted({file for each in splits for file in each.paths.values()})
    progress = WorkProgress(quiet=quiet or json)
    progress.start("looking at images", len(files))
    try:
        states = check_images(files, decode=decode, workers=workers, on_image=progress.advance)
    finally:
        progress.stop()
    kept = protocol_for(kind.value).reference is Reference.KEEP
    reports = [make_report(each, states, reference_kept=kept) for each in splits]
    if json:
        print_json({**report_document(kind.value, reports), "splits_without_captions": bare})
    else:
        _print(reports)
        for name in bare:
            console().print(f"{name}: images are listed, and no captions are there: not looked at")
    if broken := [report.name for report in reports if not report.complete]:
        raise Reservation(
            f"{', '.join(broken)}: images cannot be read, or queries cannot be answered; see the report"
        )


@app.command("export")
def export(
    kind: _Kind,
    path: _Place,
    out: Annotated[
        Path, typer.Argument(metavar="FILE", help="The manifest to write, in a folder that has the images.")
    ],
    split: _Splits = None,
    category: CategoryOption = None,
    json: Json = False,
) -> None:
    """Write a data set as a triplet manifest (JSON Lines): what the web demo reads as known queries."""
    from combiner_training.datasets.triplets import manifest_rows
    from combiner_training.evaluation.protocol import protocol_for
    from service_runtime.files import write_json_lines

    if kind is DatasetName.GENECIS:
        raise WrongUsage("GeneCIS has images that are cut out of others, which a manifest cannot name")
    with report_errors():
        splits = _splits(kind, path, split or (), category or ())
        rows = list(manifest_rows(splits, out.parent))
        write_json_lines(out, rows)
    queries = sum(len(each.queries) for each in splits)
    there, here = (protocol_for(each).reference for each in (kind.value, DatasetName.TRIPLETS.value))
    names = [each.name for each in splits]
    if json:
        counts = {"queries": queries, "images": len(rows) - queries, "splits": names}
        print_json({"file": out, **counts, "published_reference": there.value})
        return
    printed = console()
    printed.print(f"{out}: {queries} queries, {len(rows) - queries} images", highlight=False)
    printed.print(f"splits: {', '.join(names)}", highlight=False)
    if there is not here:
        printed.print(
            f"{kind} is measured with --reference {there}, triplets by default with {here}: give it to cir "
            "evaluate and cir compare",
            highlight=False,
        )


def _splits(
    kind: DatasetName, path: Path, names: Sequence[str | None], categories: Sequence[str]
) -> list[Split]:
    from combiner_training.datasets.load import Dataset, available_splits, load_splits
    from combiner_training.datasets.triplets import splits_in

    dataset = Dataset(kind.value)
    if not names:
        of_manifest = kind in (DatasetName.TRIPLETS, DatasetName.GARMENTS)
        names = (of_manifest and splits_in(path)) or available_splits(dataset, path)
    return [each for name in names for each in load_splits(dataset, path, name, categories=categories)]


def _print(reports: Sequence[SplitReport]) -> None:
    from combiner_training.datasets.check import REPORT_COLUMNS, report_notes, report_row

    printed = console()
    printed.print(table(REPORT_COLUMNS, [report_row(report) for report in reports], right=REPORT_COLUMNS[1:]))
    for report in reports:
        for note in report_notes(report):
            printed.print(note)
