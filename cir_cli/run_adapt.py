"""From a catalog or a manifest to a served Combiner. Imports what the extras bring, torch among it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cir_cli.adapt_handover import Place, can_begin_with, combiner_in_use, find_place, hand_over
from cir_cli.adapt_report import DOCUMENT, EXAMPLES, Outcome, write_report
from cir_cli.adapt_sources import Model, SourceOfItems, is_manifest, read_catalog, read_manifest
from cir_cli.embedding_backends import LocalModel, RemoteModel
from cir_cli.errors import Failure
from cir_cli.options import Access
from cir_cli.run_features import settings_of
from combiner_service.checkpoint import inspect_checkpoint
from combiner_training.adapt.clicks import Clicks, read_clicks
from combiner_training.adapt.dataset import AdaptData, DatasetOptions, make_dataset
from combiner_training.adapt.measure import Measured, examples, measure
from combiner_training.adapt.phrasings import PhrasingFile, read_phrasings
from combiner_training.adapt.recipe import train_options
from combiner_training.data import training_data
from combiner_training.datasets.base import Split
from combiner_training.evaluation.load_combiner import load_combiner
from combiner_training.evaluation.protocol import protocol_for
from combiner_training.evaluation.queries import EvaluationQueries, evaluation_queries
from combiner_training.extract import extract_texts
from combiner_training.feature_file import FeatureFolder, open_folder
from combiner_training.options import TrainingError
from combiner_training.plots import LEARNING_CURVE, plot_learning_curve
from combiner_training.progress import Progress
from combiner_training.train import BEGUN_WITH, Validation, train
from combiner_training.train_state import FILE as STATE
from service_runtime.files import write_json_lines

_BATCH_ITEMS = 64
_TRAINING, _FEATURES = "training", "features"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptRequest:
    """Options of a run of `cir adapt`. `source` is a catalog or a manifest, `out` the folder of the run.

    `from_scratch` takes nothing from the combiner in use,
    `fresh` begins anew where a run was interrupted, `force` hands over what is no better than what is in use.
    """

    source: str
    name: str
    out: Path
    checkpoints: Path
    dataset: DatasetOptions
    store: str = ""
    store_api_key: str = ""
    store_ca_file: Path | None = None
    embedder: str = ""
    access: Access
    model: str = ""
    pretrained: str = ""
    traits: Mapping[str, str] = field(default_factory=dict)
    phrasings: Path | None = None
    clicks: Path | None = None
    in_use: str = ""
    most_items: int = 20_000
    epochs: int = 0
    device: str = "auto"
    from_scratch: bool = False
    fresh: bool = False
    force: bool = False


def run_adapt(
    request: AdaptRequest, progress: Progress, on_data: Callable[[AdaptData], None] = lambda data: None
) -> Outcome:
    """Read, build, train, measure, report, and hand over what is better. `on_data` sees what is taken.

    Raises:
        Failure: Something cannot be read, used or written. What is served stays as it was.
        AdaptError: The catalog has too little to learn from.
        TrainingError: The training cannot be begun, resumed or ended.
    """
    clock = _Clock()
    place = find_place(request.checkpoints, request.name, request.source)
    phrasing_file = read_phrasings(request.phrasings) if request.phrasings else PhrasingFile()
    request.out.mkdir(parents=True, exist_ok=True)
    features = request.out / _FEATURES
    with clock.measured("items"), _model(request) as opened:
        source, model = _read(request, features, opened, progress)
        with clock.measured("queries"):
            data = make_dataset(source.items, request.dataset, phrasing_file)
            clicks = _clicks(request, source, data)
            _write_queries(request.out, data, clicks)
        on_data(data)
        with clock.measured("texts"):
            _embed_texts(features, data, clicks, model, progress)
    progress.stop()
    folder = open_folder(features)
    in_use = combiner_in_use(request.in_use, place, folder)
    with clock.measured("training"):
        begin_with = None if request.from_scratch else in_use.file
        checkpoint = _train(request, data, clicks, folder, begin_with, progress)
    with clock.measured("comparison"):
        new = load_combiner(str(checkpoint), folder)
        queries = _queries(data.splits["test"], folder)
        protocol = protocol_for(source.items.catalog)
        measured = measure(new, in_use.combiner, in_use.name, queries, data.dialogues, folder, protocol)
        shown = examples(new, in_use.combiner, queries, measured, EXAMPLES)
    better = measured.difference.better
    handed_over = better or request.force
    outcome = Outcome(
        source,
        data,
        measured,
        _verdict(measured, place, handed_over=handed_over),
        place.combiner,
        place.path if handed_over else checkpoint,
        inspect_checkpoint(checkpoint).metadata.extra.get(BEGUN_WITH, ""),
        handed_over,
        clicks.counts,
        clock.seconds,
    )
    if handed_over:
        facts = {
            "adapted_from": source.origin,
            "better_than": measured.in_use,
            "difference_in_recall@1": json.dumps(measured.difference.document()),
        }
        hand_over(checkpoint, place, request.source, facts)
    # Last: a run with a report is over, and the next one begins anew.
    write_report(request.out, outcome, shown, data.splits["test"].queries)
    return outcome


@contextmanager
def _model(request: AdaptRequest) -> Iterator[Callable[[Mapping[str, str]], Model]]:
    """Give a function that opens the model, by the facts of a catalog's own; it is closed at the end."""
    opened: list[Model] = []

    def open_model(facts: Mapping[str, str]) -> Model:
        if request.embedder:
            opened.append(RemoteModel(request.embedder, request.access, _BATCH_ITEMS))
        else:
            chosen: dict[str, Any] = {
                "architecture": request.model or facts.get("architecture", "cir-small"),
                "pretrained": request.pretrained or facts.get("pretrained", "auto"),
            }
            opened.append(LocalModel(settings_of(chosen | dict(request.traits)), _BATCH_ITEMS))
        return opened[-1]

    try:
        yield open_model
    finally:
        for each in opened:
            each.close()


def _read(
    request: AdaptRequest, features: Path, opened: Callable[[Mapping[str, str]], Model], progress: Progress
) -> tuple[SourceOfItems, Model]:
    if is_manifest(request.source):
        model = opened({})
        return (
            read_manifest(Path(request.source), features, model, most=request.most_items, progress=progress),
            model,
        )
    source = read_catalog(
        request.source,
        request.store,
        features,
        api_key=request.store_api_key,
        ca_file=request.store_ca_file,
        most=request.most_items,
        progress=progress,
    )
    model = opened(source.items.model)
    if model.identity.fingerprint != source.items.model_fingerprint:
        raise Failure(
            f"{source.origin} is of model {source.items.model_fingerprint}, its texts would be of "
            f"{model.identity.fingerprint}: one model must make both. Give its embedder with --embedder, its "
            "name with --model and --pretrained, or index the catalog again"
        )
    return source, model


def _clicks(request: AdaptRequest, source: SourceOfItems, data: AdaptData) -> Clicks:
    if request.clicks is None:
        return Clicks((), {})
    kept = {
        name for split in ("val", "test") for query in data.splits[split].queries for name in query.targets
    }
    return read_clicks(request.clicks, source.items.names, kept)


def _write_queries(out: Path, data: AdaptData, clicks: Clicks) -> None:
    """Write what is trained on and tested with, for people to look at."""
    rows = (
        {
            "id": query.id,
            "split": split.name,
            "reference": query.reference,
            "text": query.texts[0],
            "targets": list(query.targets),
            **({"group": list(query.group)} if query.group else {}),
        }
        for split in (*data.splits.values(), replace(data.splits["train"], queries=clicks.queries))
        for query in split.queries
    )
    write_json_lines(out / "triplets.jsonl", rows)


def _embed_texts(features: Path, data: AdaptData, clicks: Clicks, model: Model, progress: Progress) -> None:
    texts = [query.texts[0] for split in data.splits.values() for query in split.queries]
    texts += [query.texts[0] for query in clicks.queries]
    texts += [turn.text for dialogue in data.dialogues for turn in dialogue.turns]
    extract_texts(features, texts, model, dtype="float32", progress=progress)


def _train(
    request: AdaptRequest,
    data: AdaptData,
    clicks: Clicks,
    folder: FeatureFolder,
    begin_with: Path | None,
    progress: Progress,
) -> Path:
    """Train, going on where an interrupted run was; returns the best checkpoint.

    The weights of `begin_with` come first where they are of the same sizes: a small catalog has too little to
    begin from nothing.
    """
    training = request.out / _TRAINING
    if request.fresh or (request.out / DOCUMENT).exists():
        (request.out / DOCUMENT).unlink(missing_ok=True)
        shutil.rmtree(training, ignore_errors=True)
    split = data.splits["train"]
    triplets = training_data([replace(split, queries=(*split.queries, *clicks.queries))], folder)
    options = train_options(
        len(triplets.ids), epochs=request.epochs, seed=request.dataset.seed, device=request.device
    )
    validation = Validation([_queries(data.splits["val"], folder)], protocol_for(data.splits["val"].dataset))
    try:
        trained = train(
            triplets,
            validation,
            options,
            training,
            resume=(training / STATE).exists(),
            begin_with=begin_with if can_begin_with(begin_with, options, folder.dimension) else None,
            progress=progress,
        )
    except TrainingError as error:
        if (training / STATE).exists():
            raise TrainingError(f"{error}; `fresh` begins anew in {request.out}") from error
        raise
    finally:
        progress.stop()
    plot_learning_curve(request.out / LEARNING_CURVE, trained.log.entries, triplets.name)
    return training / "best.safetensors"


def _queries(split: Split, folder: FeatureFolder) -> EvaluationQueries:
    return evaluation_queries(split, folder.images, folder.texts, protocol_for(split.dataset))


def _verdict(measured: Measured, place: Place, *, handed_over: bool) -> str:
    difference = measured.difference
    told = f"{difference.text} of R@1 beside {measured.in_use}; {measured.headlines}"
    if difference.better:
        return f"Better: {told}. It is served as {place.combiner}."
    if handed_over:
        return f"No better beyond chance: {told}. By --force it is served as {place.combiner} all the same."
    return f"No better beyond chance: {told}. Nothing was handed over; --force does it all the same."


class _Clock:
    """CPU seconds of this process by part of the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measured(self, part: str) -> Iterator[None]:
        started = time.process_time()
        inner = sum(self.seconds.values())
        try:
            yield
        finally:
            spent = time.process_time() - started - (sum(self.seconds.values()) - inner)
            self.seconds[part] = round(spent, 1)
