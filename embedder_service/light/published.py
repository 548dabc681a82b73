"""ONNX exports of open_clip's models as others publish them: a layout that is read as it is.

    config.json                     the architecture, in open_clip's layout
    visual/model.onnx               float32 (1, 3, size, size) normalised pixels -> (1, dimension)
    visual/preprocess_cfg.json      size, mean, std, interpolation, resize_mode
    textual/model.onnx              int32 or int64 (1, context) tokens -> (1, dimension)
    textual/tokenizer.json          the vocabulary
    textual/tokenizer_config.json   the token that short texts are filled up with

Such towers mostly take one row at a time and end in a division by the length, which is left out: features are
raw. Weights have other names and shapes than in torch, so that the identity is that of the files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedder_service.identity import Digests
from embedder_service.light.folder import file_digest
from embedder_service.light.onnx_file import check_onnx
from embedder_service.light.source import TEXTUAL, VISUAL, LightSource
from embedder_service.light.tokenizer import (
    ClipTokenizer,
    LightTokenizer,
    VocabularyTokenizer,
    read_vocabulary,
)
from embedder_service.probe import TOKENIZER_TEXTS, tokens_digest
from embedder_service.traits import Padding, Traits, read_traits
from service_runtime.errors import StartupError

CONFIG, PIXELS = "config.json", "visual/preprocess_cfg.json"
_TOKENIZER, _TOKENIZER_CONFIG = "textual/tokenizer.json", "textual/tokenizer_config.json"
_NAME = "onnx"
_DEFAULT_CONTEXT = 77
_MAX_DOCUMENT_BYTES = 16 << 20


def is_published(folder: Path) -> bool:
    """Return true for a folder in this layout, as far as its names tell."""
    return (folder / CONFIG).is_file() and (folder / "visual").is_dir() and (folder / "textual").is_dir()


def published_sizes(folder: Path) -> tuple[int, int]:
    """Return the side of images and the dimension of features, from the documents alone.

    Raises:
        StartupError: they do not say it; the message is one line.
    """
    config = _read(folder / CONFIG)
    dimension = _count(config.get("embed_dim"))
    if not isinstance(config.get("text_cfg"), dict) or not dimension:
        raise StartupError(
            f"{folder / CONFIG} cannot be used: it needs embed_dim and text_cfg, as open_clip writes them"
        )
    return _image_size(folder / PIXELS, _read(folder / PIXELS)), dimension


def read_published(folder: Path, name: str = "") -> LightSource:
    """Read a folder in this layout; `name` is shown in place of the folder's.

    Raises:
        StartupError: something is missing, damaged or of another kind; the message is one line.
    """
    size, dimension = published_sizes(folder)
    config, pixels = _read(folder / CONFIG), _read(folder / PIXELS)
    digests = _digests(folder)
    tokenizer, words = _tokenizer(folder, config["text_cfg"])
    return LightSource(
        folder=folder,
        architecture=name or f"local-dir:{folder.resolve().name}",
        pretrained=_NAME,
        config=config,
        digests=digests,
        words=words,
        dimension=dimension,
        image_size=size,
        traits=_traits(folder / PIXELS, pixels, config),
        tokenizer=tokenizer,
        expected=None,
        is_export=True,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_DOCUMENT_BYTES:
            raise ValueError(f"it has more than {_MAX_DOCUMENT_BYTES} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StartupError(f"{path} cannot be used: {reason}; copy the whole folder again") from error
    return document


def _digests(folder: Path) -> Digests:
    """Return name and digest of each file with weights."""
    names = []
    for name in (VISUAL, TEXTUAL):
        place = Path(name).parent
        names += [name, *(str(place / other) for other in check_onnx(folder / name).external)]
    return [(name, file_digest(folder / name)) for name in sorted(set(names))]


def _count(value: object) -> int:
    """Return a number that may be a size, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65_536 else 0


def _image_size(path: Path, pixels: Mapping[str, Any]) -> int:
    size = pixels.get("size")
    sides = {_count(side) for side in (size if isinstance(size, list) else [size])}
    if len(sides) != 1 or not 1 <= max(sides) <= 4096:
        raise StartupError(f"{path} cannot be used: size is {size!r}; expected one number, for squares")
    return sides.pop()


def _traits(path: Path, pixels: Mapping[str, Any], config: Mapping[str, Any]) -> Traits:
    try:
        return read_traits(pixels, config.get("quick_gelu", False))
    except ValueError as error:
        raise StartupError(f"{path} cannot be used: {error}") from error


def _tokenizer(folder: Path, text: Mapping[str, Any]) -> tuple[LightTokenizer, dict[str, Any] | None]:
    """Return the tokenizer, and what of the identity it decides."""
    path = folder / CONFIG
    options, context = text.get("tokenizer_kwargs") or {}, text.get("context_length", _DEFAULT_CONTEXT)
    name = text.get("hf_tokenizer_name") or ""
    if not isinstance(context, int) or isinstance(context, bool) or not 3 <= context <= 4096:
        raise StartupError(f"{path} cannot be used: context_length is {context!r}; expected 3 to 4096 tokens")
    if not isinstance(options, dict) or not isinstance(name, str):
        raise StartupError(
            f"{path} cannot be used: tokenizer_kwargs must be an object and hf_tokenizer_name a text"
        )
    unknown = sorted(options.keys() - {"clean", "strip_sep_token"})
    if unknown or text.get("tokenizer_mode"):
        what = "tokenizer_mode" if not unknown else unknown[0]
        raise StartupError(
            f"{path} has the tokenizer option {what}, which only torch knows; serve it by torch"
        )
    vocabulary = read_vocabulary(folder / _TOKENIZER)
    if not name:
        if options.get("strip_sep_token"):
            raise StartupError(f"{path} cannot be used: CLIP's own tokenizer has no strip_sep_token")
        return ClipTokenizer(vocabulary, context, str(options.get("clean", "lower"))), None
    stated = _read(folder / _TOKENIZER_CONFIG)
    padding = Padding(
        _mark(folder, stated, "pad_token"),
        stated.get("padding_side") == "left",
        _mark(folder, stated, "sep_token") if options.get("strip_sep_token") else "",
    )
    tokenizer = VocabularyTokenizer(
        vocabulary, context, str(options.get("clean", "whitespace")), padding, name=name
    )
    return tokenizer, {"tokenizer": tokens_digest(tokenizer(TOKENIZER_TEXTS))}


def _mark(folder: Path, stated: Mapping[str, Any], key: str) -> str:
    value = stated.get(key)
    token = value.get("content") if isinstance(value, dict) else value
    if not isinstance(token, str) or not token:
        raise StartupError(f"{folder / _TOKENIZER_CONFIG} names no {key}; copy the whole folder again")
    return token
