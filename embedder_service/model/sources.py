"""Places where a model comes from: a tag of open_clip, a repository of the Hub, a folder, a file, this
project.

A source is found before weights are read: its architecture, what is stated about its preprocessing, and where
the weights are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from open_clip.pretrained import download_pretrained_from_hf

from embedder_service.model.checkpoint import find_in_folder, one_line
from embedder_service.model.description import (
    CONFIG_NAME,
    Document,
    comparable,
    published_for,
    published_traits,
    read_document,
)
from embedder_service.model.hugging_face import MODEL_CONFIG, PIXELS_CONFIG, read_hugging_face
from embedder_service.names import FOLDER, HUB
from embedder_service.traits import Traits
from service_runtime.errors import StartupError

# Architectures of this project, and the weights that ship with them.
_PACKAGE = Path(__file__).parents[1]
open_clip.add_model_config(_PACKAGE / "architectures")
SHIPPED, AUTO, RANDOM = "shipped", "auto", "random"
_DEFAULT_TAG = "openai"


@dataclass(frozen=True, slots=True)
class Tag:
    """Weights that open_clip downloads."""

    name: str
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RandomWeights:
    """Weights of a model that nobody trained."""

    seed: int


@dataclass(frozen=True, slots=True)
class Source:
    """A model before its weights are read.

    `architecture` and `pretrained` are names for people. `published` has the traits of every tag of the
    architecture, `document` what lies with these very weights. `folder` is where files that the config names
    relative to it are, tokenizer included.
    """

    architecture: str
    pretrained: str
    config: dict[str, Any]
    weights: Tag | RandomWeights | Path
    published: Mapping[str, Traits]
    document: Document | None = None
    folder: Path | None = None


def find_source(
    architecture: str, pretrained: str, *, config_file: Path | None = None, cache_dir: Path | None = None
) -> Source:
    """Find a model by the names that settings have for it.

    `architecture` is a name that open_clip knows, `hf-hub:ORG/NAME`, `local-dir:PATH` or the path of a folder
    with `open_clip_config.json`; `config_file` replaces it by a file in open_clip's layout. `pretrained` is a
    tag, the path of a checkpoint or of a folder with one, "shipped", "random[:SEED]", or "auto": what comes
    with the folder or repository, else what ships with this project, else OpenAI's weights.

    Raises:
        StartupError: nothing can be found by these names; the message is one line.
    """
    seed = _random_seed(pretrained)
    if config_file is not None:
        return _of_config_file(architecture, pretrained, seed, config_file)
    if architecture.startswith(HUB):
        return _of_repository(architecture, pretrained, seed, cache_dir)
    if (folder := _folder(architecture)) is not None:
        return _of_folder(folder, pretrained, seed)
    return _of_built_in(architecture.replace("/", "-"), architecture, pretrained, seed)


def _random_seed(pretrained: str) -> int | None:
    name, _, seed = pretrained.partition(":")
    if name != RANDOM:
        return None
    try:
        return int(seed or "0")
    except ValueError as error:
        raise StartupError(
            f"pretrained {pretrained!r}: the seed must be a number, such as random:1"
        ) from error


def _folder(architecture: str) -> Path | None:
    """Return the folder that an architecture names, or None for the name of an architecture."""
    if architecture.startswith(FOLDER):
        if not architecture.removeprefix(FOLDER).strip():
            raise StartupError(f"architecture {architecture!r} names no folder; expected {FOLDER}PATH")
        return Path(architecture.removeprefix(FOLDER)).expanduser()
    path = Path(architecture).expanduser()
    is_name = architecture.replace("/", "-") in open_clip.list_models()
    return path if not is_name and path.is_dir() else None


def _of_config_file(architecture: str, pretrained: str, seed: int | None, path: Path) -> Source:
    def find() -> Path:
        if pretrained == SHIPPED:
            return _shipped(architecture)
        return _checkpoint(pretrained, "a tag, which a model config file cannot have")

    return _described(architecture, pretrained, seed, read_document(path), find, path.resolve().parent)


def _of_folder(folder: Path, pretrained: str, seed: int | None) -> Source:
    if not folder.is_dir():
        raise StartupError(f"folder {folder} does not exist; expected one with {CONFIG_NAME} and the weights")

    def find() -> Path:
        if pretrained == AUTO:
            return find_in_folder(folder)
        return _checkpoint(pretrained, f"{AUTO}, for the weights in {folder}")

    shown = f"{FOLDER}{folder.resolve().name}"
    return _described(shown, pretrained, seed, _document_in(folder), find, folder.resolve())


def _described(
    shown: str,
    pretrained: str,
    seed: int | None,
    document: Document,
    find: Callable[[], Path],
    folder: Path | None = None,
) -> Source:
    """Return a model that a document describes, with random weights or those that `find` finds."""
    weights = find() if seed is None else RandomWeights(seed)
    return Source(
        shown,
        f"{RANDOM}:{seed}" if seed is not None else _weights_name(pretrained, weights),
        copy.deepcopy(document.config),
        weights,
        published_for(document.config),
        document,
        folder,
    )


def _document_in(folder: Path) -> Document:
    """Return what describes the weights in a folder: open_clip's document, else those of Hugging Face."""
    if not (folder / CONFIG_NAME).is_file() and (folder / MODEL_CONFIG).is_file():
        return read_hugging_face(folder / MODEL_CONFIG, folder / PIXELS_CONFIG)
    return read_document(folder / CONFIG_NAME)


def _of_repository(architecture: str, pretrained: str, seed: int | None, cache_dir: Path | None) -> Source:
    repository = architecture.removeprefix(HUB)
    if not repository.strip("/"):
        raise StartupError(f"architecture {architecture!r} names no repository; expected {HUB}ORG/NAME")
    document = _document_of(repository, cache_dir)

    def find() -> Path:
        if pretrained == AUTO:
            return _weights_of(repository, document, cache_dir)
        return _checkpoint(pretrained, f"{AUTO}, for the weights of {architecture}")

    return _described(architecture, pretrained, seed, document, find)


def _document_of(repository: str, cache_dir: Path | None) -> Document:
    try:
        return read_document(_download(repository, CONFIG_NAME, cache_dir))
    except _NotDownloaded:
        try:
            paths = [_download(repository, name, cache_dir) for name in (MODEL_CONFIG, PIXELS_CONFIG)]
        except _NotDownloaded:
            pass
        else:
            return read_hugging_face(*paths)
        raise


def _weights_of(repository: str, document: Document, cache_dir: Path | None) -> Path:
    if document.path.name != MODEL_CONFIG:
        return _download(repository, None, cache_dir)
    try:
        return _download(repository, "model.safetensors", cache_dir)
    except _NotDownloaded:
        return _download(repository, "pytorch_model.bin", cache_dir)


class _NotDownloaded(StartupError):
    """A file of a repository cannot be had: it does not exist, or the network is away."""


def _download(repository: str, filename: str | None, cache_dir: Path | None) -> Path:
    try:
        return Path(
            download_pretrained_from_hf(
                repository, filename=filename, cache_dir=None if cache_dir is None else str(cache_dir)
            )
        )
    except Exception as error:
        # Downloading goes through several libraries that share no base class of errors.
        raise _NotDownloaded(
            f"{filename or 'the weights'} of {HUB}{repository} cannot be downloaded: {one_line(error)}; "
            "check the "
            "name, or "
            f"download the repository on a machine with access and give its folder as {FOLDER}PATH"
        ) from error


def _of_built_in(name: str, shown: str, pretrained: str, seed: int | None) -> Source:
    config = open_clip.get_model_config(name) if name in open_clip.list_models() else None
    if config is None:
        raise StartupError(
            f"architecture {shown!r} is not known to open_clip; give one of its names, such as ViT-B-32 or "
            "RN50x4, "
            f"{HUB}ORG/NAME, {FOLDER}PATH, or a JSON file with --model-config-file"
        )
    published = published_traits(name, config)
    if seed is not None:
        return Source(shown, f"{RANDOM}:{seed}", config, RandomWeights(seed), published)
    pretrained = _resolve_auto(name, published) if pretrained == AUTO else pretrained
    if tag := dict(open_clip.get_pretrained_cfg(name, pretrained)):
        return Source(shown, pretrained, config, Tag(pretrained, tag), published)
    if pretrained == SHIPPED:
        return Source(shown, SHIPPED, config, _shipped(name), published)
    tags = ", ".join(published) or "none"
    path = _checkpoint(pretrained, f"a tag of {shown} (tags: {tags})")
    document = _document_beside(path, name, config)
    config = config if document is None else copy.deepcopy(document.config)
    return Source(shown, path.name, config, path, published, document, path.resolve().parent)


def _resolve_auto(name: str, published: Mapping[str, Traits]) -> str:
    if _shipped_path(name).is_file():
        return SHIPPED
    if _DEFAULT_TAG in published or len(published) == 1:
        return _DEFAULT_TAG if _DEFAULT_TAG in published else next(iter(published))
    tags = ", ".join(published) or "none; give the path of a checkpoint"
    raise StartupError(f"say which weights of {name} to use with --pretrained (tags: {tags})")


def _document_beside(path: Path, name: str, config: Mapping[str, Any]) -> Document | None:
    """Return the document in a checkpoint's folder, if there is one.

    Raises:
        StartupError: it describes another architecture than the one that was asked for.
    """
    beside = path.parent / CONFIG_NAME
    if not beside.is_file():
        return None
    document = read_document(beside)
    if comparable(document.config) != comparable(config):
        raise StartupError(
            f"{beside} describes another architecture than {name}; give the folder as --architecture "
            f"{FOLDER}{path.parent} (cir: --model), or move {path.name} away from it"
        )
    return document


def _shipped_path(name: str) -> Path:
    return _PACKAGE / "shipped" / f"{name}.safetensors"


def _shipped(name: str) -> Path:
    path = _shipped_path(name)
    if not path.is_file():
        held = ", ".join(sorted(file.stem for file in path.parent.glob("*.safetensors"))) or "none"
        raise StartupError(
            f"no weights of {name!r} are shipped (there are: {held}); give an open_clip tag or the "
            "path of a checkpoint as --pretrained"
        )
    return path


def _checkpoint(pretrained: str, otherwise: str) -> Path:
    path = Path(pretrained).expanduser()
    if path.is_dir():
        return find_in_folder(path)
    if not path.is_file():
        raise StartupError(f"pretrained {pretrained!r} is neither a file, nor {otherwise}, nor random[:SEED]")
    return path


def _weights_name(pretrained: str, weights: RandomWeights | Path) -> str:
    return SHIPPED if pretrained == SHIPPED else getattr(weights, "name", pretrained)
