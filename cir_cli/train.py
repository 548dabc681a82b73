"""`cir train`: a Combiner, or an inversion, from extracted features or captions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cir_cli.caption_file import CAPTION_FIELD, CaptionFile, is_json_lines
from cir_cli.datasets import (
    DATASET,
    FEATURES,
    ROOT,
    CaptionsName,
    CaptionsOption,
    CategoryOption,
    DatasetName,
    GalleryName,
    GalleryOption,
    ReferenceOption,
    report_errors,
)
from cir_cli.errors import Reservation, WrongUsage, require
from cir_cli.evaluate import ModelOption, PretrainedOption
from cir_cli.options import (
    Json,
    Quiet,
    flag_of,
    given_options,
    in_groups,
    refuse_together,
    refuse_without,
    with_model,
)
from cir_cli.output import WorkProgress, print_json
from combiner_training.datasets.base import Split
from combiner_training.inversion_options import InversionOptions
from combiner_training.options import TrainOptions

if TYPE_CHECKING:
    from combiner_training.data import TrainingData


class Method(StrEnum):
    """Network that is trained."""

    COMBINER = "combiner"
    INVERSION = "inversion"


_COMBINER = {each.name for each in fields(TrainOptions)}
_INVERSION = {each.name for each in fields(InversionOptions)}
# Numbers that both methods have, each with a default of its own.
_SHARED = _COMBINER & _INVERSION
_INVERSION_ONLY = {"captions_file", "caption_field", "only", "model", "pretrained"}
_COMBINER_ONLY = {"validation_split", "no_validation", "gallery", "reference", "captions", "begin_with"}
_OF_VALIDATION = ("validation_split", "patience", "gallery", "reference", "captions")
_OF_SPLITS = ("dataset", "root", "train_split", "category")
_FOREIGN = {
    Method.COMBINER: (_INVERSION - _SHARED) | _INVERSION_ONLY,
    Method.INVERSION: (_COMBINER - _SHARED) | _COMBINER_ONLY,
}


@in_groups(
    {
        "What is trained, and where it goes": (
            "method", "out", "begin_with", "resume", "seed", "device", "mixed_precision",
        ),
        "The data set": (
            "dataset", "root", "features", "train_split", "validation_split", "no_validation", "category",
            "gallery", "reference", "captions",
        ),
        "Captions and model, for inversion": (
            "captions_file", "caption_field", "only", "model", "pretrained", "template",
        ),
        "The network and its training": (
            "epochs", "steps", "batch_size", "learning_rate", "schedule", "warm_up", "mask_right_answers",
            "candidates", "continued", "projection_dim", "hidden_dim", "dropout", "noise", "validate_every",
            "patience",
        ),
    }
)  # fmt: skip
@with_model("options", TrainOptions)
@with_model("inversion", InversionOptions, without=dict.fromkeys(_SHARED, "the combiner's options have it"))
def train(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of checkpoints, log and plots.")],
    method: Annotated[
        Method,
        typer.Option(
            "--method",
            help="combiner, from triplets; or inversion, without any: from captions (--captions-file), or "
            "from the images of --features.",
        ),
    ] = Method.COMBINER,
    dataset: Annotated[DatasetName | None, DATASET] = None,
    root: Annotated[Path | None, ROOT] = None,
    features: Annotated[Path | None, FEATURES] = None,
    captions_file: Annotated[
        Path | None,
        typer.Option(
            "--captions-file",
            metavar="FILE",
            help="Inversion: captions, a line each, or objects of JSON Lines (.jsonl).",
        ),
    ] = None,
    caption_field: Annotated[
        str, typer.Option("--caption-field", help="Inversion: field of the caption in JSON Lines.")
    ] = CAPTION_FIELD,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="FIELD=VALUE", help="Inversion: such JSON Lines alone; repeatable."),
    ] = None,
    model: ModelOption = "",
    pretrained: PretrainedOption = "",
    train_split: Annotated[str, typer.Option("--train-split", help="Split to train on.")] = "train",
    validation_split: Annotated[
        str, typer.Option("--validation-split", help="Split that the best checkpoint is chosen on.")
    ] = "val",
    no_validation: Annotated[
        bool, typer.Option("--no-validation", help="Choose nothing; keep the last checkpoint alone.")
    ] = False,
    category: CategoryOption = None,
    gallery: GalleryOption = GalleryName.ORIGINAL,
    reference: ReferenceOption = None,
    captions: CaptionsOption = CaptionsName.AND,
    begin_with: Annotated[
        Path | None,
        typer.Option(
            "--begin-with", metavar="FILE", help="Start from this checkpoint's weights, not random ones."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the training in --out; the result is the same.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
    *,
    options: TrainOptions,
    inversion: InversionOptions,
) -> None:
    """Train the Combiner on features that were extracted before, with the method's loss; or an inversion.

    --out gets best.safetensors (CIRR: three, by arithmetic, harmonic and geometric mean), last.safetensors,
    metrics.jsonl and .csv, learning_curve.png and text_weights.png. The checkpoints can be served as they
    are.
    """
    given = given_options(ctx)
    _check_together(given, method)
    if method is Method.COMBINER and not no_validation and train_split == validation_split:
        raise WrongUsage(
            f"--train-split and --validation-split are both {train_split!r}: the score would say how well "
            "the triplets are remembered; name another, or train without one by --no-validation"
        )
    require("train", what="cir train")
    if method is Method.INVERSION:
        own = {name: getattr(options, name) for name in given & _SHARED}
        _train_inversion(
            _captions_of(captions_file, caption_field, only or []),
            features,
            (dataset, root, train_split, category),
            out,
            replace(inversion, **own),
            model=model,
            pretrained=pretrained,
            resume=resume,
            quiet=quiet,
            json=json,
        )
        return
    assert dataset is not None and root is not None and features is not None  # noqa: S101, PT018  # as said
    from cir_cli.run_evaluate import Experiment
    from cir_cli.run_train import run_train
    from combiner_training.evaluation.protocol import selection_rules

    with report_errors(lambda: _going_on(out)):
        data, trained = run_train(
            Experiment(dataset, root, features, category or (), gallery, reference or "", captions),
            out,
            options,
            train_split=train_split,
            validation_split="" if no_validation else validation_split,
            resume=resume,
            begin_with=begin_with,
            progress=WorkProgress(quiet=quiet or json),
        )
    if json:
        print_json(
            {
                "method": method.value,
                "data": data.text,
                "epoch": trained.epoch,
                "best": dict(trained.best),
                "best_of": {name: rule.text for name, rule in selection_rules(dataset.value).items()},
                "last": trained.last.document() if trained.last else None,
                "folder": str(out),
                "warnings": list(trained.warnings),
            }
        )
        _reserve(data)
        return
    print(f"trained on {data.text}; {trained.epoch} epochs")
    if trained.last:
        print(f"validated by {trained.last.protocol.text}: {trained.last.coverage.text}")
    for name, score in trained.best.items():
        of = selection_rules(dataset.value)[name].text
        print(f"{name}: {100 * score:.2f} % ({of}): {out / name}.safetensors")
    for warning in trained.warnings:
        print(f"WARNING: {warning}")
    print(f"serve it with: python -m combiner_service --checkpoint-dir {out}")
    _reserve(data)


def _going_on(folder: Path) -> str:
    from combiner_training.train_state import FILE

    return "go on with --resume" if (folder / FILE).exists() else "run it again: nothing is saved so far"


def _reserve(data: TrainingData) -> None:
    if any(data.skipped.values()):
        raise Reservation(data.text)


def _check_together(given: Collection[str], method: Method) -> None:
    """Refuse options that say nothing together.

    Raises:
        WrongUsage: There are some, or one is missing.
    """
    if foreign := sorted(_FOREIGN[method] & {*given}):
        raise WrongUsage(f"{flag_of(foreign[0])} is not an option of --method {method}; leave it out")
    if method is Method.COMBINER:
        refuse_together(given, "no_validation", _OF_VALIDATION, "nothing is validated")
        if missing := [name for name in ("dataset", "root", "features") if name not in given]:
            raise WrongUsage(f"{flag_of(missing[0])} is missing, which --method combiner needs")
        return
    if not {"captions_file", "features"} & {*given}:
        raise WrongUsage("--method inversion needs --captions-file FILE, or the images of --features DIR")
    refuse_together(given, "captions_file", _OF_SPLITS, "captions are of no data set")
    refuse_without(
        given, "captions_file", ("caption_field", "only"), "is about the lines of a file of captions"
    )
    for needed, other in (("dataset", "root"), ("root", "dataset")):
        refuse_without(given, needed, (other,), "alone names no data set")
    refuse_without(given, "dataset", ("train_split", "category"), "is a part of a data set")


def _captions_of(path: Path | None, field: str, only: list[str]) -> CaptionFile | None:
    if path is None:
        return None
    wanted = [(name, value) for name, _, value in (each.partition("=") for each in only)]
    if wrong := [each for each in only if "=" not in each]:
        raise WrongUsage(f"--only {wrong[0]}: expected FIELD=VALUE")
    if not is_json_lines(path) and (only or field != CAPTION_FIELD):
        raise WrongUsage(
            f"--{'only' if only else 'caption-field'} is about JSON Lines, and every line of {path} is a "
            "caption; leave it out, or give a file that ends in .jsonl"
        )
    return CaptionFile(path, field, tuple(wanted))


def _train_inversion(
    captions: CaptionFile | None,
    features: Path | None,
    part: tuple[DatasetName | None, Path | None, str, list[str] | None],
    out: Path,
    options: InversionOptions,
    *,
    model: str,
    pretrained: str,
    resume: bool,
    quiet: bool,
    json: bool,
) -> None:
    from cir_cli.run_inversion import run_inversion
    from combiner_training.datasets.load import Dataset, load_splits

    dataset, root, split, categories = part
    with report_errors(lambda: _going_on(out)):
        splits: Sequence[Split] = ()
        if dataset is not None and root is not None:
            splits = load_splits(Dataset(dataset), root, split, categories=categories or ())
        data, trained = run_inversion(
            captions,
            features,
            splits,
            out,
            options,
            model=model,
            pretrained=pretrained,
            resume=resume,
            progress=WorkProgress(quiet=quiet or json),
        )
    kind = "captions" if data.captions else "images"
    if json:
        print_json(
            {
                "method": Method.INVERSION.value,
                "data": data.name,
                "kind": kind,
                "rows": len(data.features),
                "held_out": trained.held_out,
                "best": trained.best,
                "folder": str(out),
            }
        )
        return
    print(f"trained on {trained.rows} {kind} of {data.name}, {trained.held_out} more kept out; no triplets")
    print(f"of these {100 * trained.best:.1f} % are told by their word alone: {out / 'best.safetensors'}")
    print(f"serve it with: python -m combiner_service --checkpoint-dir {out}, as inversion/best")
