"""Extracting features for a command. Imports what the extras bring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cir_cli.embedding_backends import LocalModel, RemoteModel
from cir_cli.errors import Failure, WrongUsage
from cir_cli.options import NOTHING, Access
from combiner_training.captions import training_texts
from combiner_training.datasets.base import Box, DatasetError
from combiner_training.datasets.load import Dataset, available_splits, load_splits, own_dialogues
from combiner_training.datasets.triplets import load_dialogues
from combiner_training.extract import ExtractResult, extract_images, extract_texts
from combiner_training.progress import Progress
from embedder_service.settings import EmbedderSettings


@dataclass(frozen=True, slots=True)
class Source:
    """Source of an extraction: splits of a data set (all there are where none is named), and dialogues.

    Garments have their own dialogues.
    """

    dataset: str
    root: Path
    splits: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    dialogues: Path | None = None


def run_extract(
    source: Source,
    folder: Path,
    *,
    model: str,
    pretrained: str,
    traits: Mapping[str, str] = NOTHING,
    embedder: str,
    access: Access,
    dtype: str | None,
    batch_items: int,
    fresh: bool,
    progress: Progress,
) -> tuple[ExtractResult, ExtractResult]:
    """Extract images and texts into `folder`.

    Empty `model` and `pretrained` leave the embedder's settings as they are; `traits` are further settings of
    it.

    Raises:
        Failure: the model or the embedder cannot be used.
        DatasetError: the data set cannot be read.
        FeatureFileError: files of features cannot be continued.
        OSError: the folder cannot be written.
    """
    paths, crops, texts = _wanted(source)
    embedding: LocalModel | RemoteModel
    if embedder:
        embedding = RemoteModel(embedder, access, batch_items)
    else:
        chosen: dict[str, Any] = {"architecture": model} if model else {}
        chosen |= {"pretrained": pretrained} if pretrained else {}
        try:
            embedding = LocalModel(settings_of(chosen | dict(traits)), batch_items)
        except Failure as failure:
            if chosen:
                raise
            raise Failure(
                f"{failure}; no model was named, so that it is the embedder's setting; the model of cir up "
                "and cir demo is --model cir-small --pretrained shipped",
                exit_code=failure.exit_code,
            ) from failure
    try:
        images = extract_images(
            folder, paths, embedding, crops=crops, dtype=dtype, fresh=fresh, progress=progress
        )
        return images, extract_texts(folder, texts, embedding, dtype=dtype, fresh=fresh, progress=progress)
    finally:
        progress.stop()
        embedding.close()


def settings_of(chosen: dict[str, Any]) -> EmbedderSettings:
    """Return the embedder's settings with what was chosen.

    Raises:
        Failure: a value is not possible.
    """
    try:
        return EmbedderSettings(**chosen)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0] if first["loc"] else "").replace("_", "-")
        raise WrongUsage(f"--{name} {first.get('input')!r}: {first['msg']}") from error


def _wanted(source: Source) -> tuple[dict[str, Path], dict[str, Box], list[str]]:
    """Every image by name, boxes of those that are cut out, and every text that a query can be trained or
    evaluated with."""
    dataset = Dataset(source.dataset)
    paths: dict[str, Path] = {}
    crops: dict[str, Box] = {}
    texts: dict[str, None] = {}
    for name in source.splits or available_splits(dataset, source.root):
        for split in load_splits(dataset, source.root, name, categories=source.categories):
            paths |= split.paths
            crops |= split.crops
            texts |= dict.fromkeys(text for query in split.queries for text in training_texts(query.texts))
    if source.dialogues is not None:
        talks = load_dialogues(source.dialogues)
    else:
        talks = own_dialogues(dataset, source.root, source.splits)
    for dialogue in talks:
        names = {dialogue.reference, *(name for turn in dialogue.turns for name in turn.targets)} - {""}
        if unknown := sorted(names - paths.keys()):
            where = f"{source.dialogues or source.root}, dialogue {dialogue.id}"
            raise DatasetError(
                f"{where}: {unknown[0]!r} is no image of the data set; expected names of its gallery"
            )
        texts |= dict.fromkeys(turn.text for turn in dialogue.turns)
    return paths, crops, list(texts)
