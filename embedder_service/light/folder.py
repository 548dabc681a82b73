"""The model folder: two ONNX towers, a tokenizer, the expected features of the probe, and a document.

    cir_model.json        architecture, traits, sizes, identity, digests of the files
    visual/model.onnx     float32 (n, 3, size, size) normalised pixels -> float32 (n, dimension)
    textual/model.onnx    int64 (n, length) tokens -> float32 (n, dimension)
    tokenizer.json        the vocabulary
    probe.npy             float32 (rows, dimension) features of the probe, as torch computes them in float32

Nothing in a folder is ever run: files are read as data, and each against the digest in the document.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from embedder_service.batching.jobs import Features
from embedder_service.images.normalisation import parse_mean, parse_std
from embedder_service.images.preprocess import Interpolation, ResizeMode
from embedder_service.light.onnx_file import check_onnx
from embedder_service.light.source import TEXTUAL, VISUAL, LightSource
from embedder_service.light.tokenizer import (
    CLIP_TOKENIZER,
    ClipTokenizer,
    LightTokenizer,
    VocabularyTokenizer,
    read_vocabulary,
)
from embedder_service.probe import TOKENIZER_TEXTS, tokens_digest
from embedder_service.traits import Padding, Traits
from service_runtime.errors import StartupError

DOCUMENT = "cir_model.json"
TOKENIZER, PROBE = "tokenizer.json", "probe.npy"
FILES = (VISUAL, TEXTUAL, TOKENIZER, PROBE)
#: To be increased when folders of before cannot be read any more.
FORMAT = 1
_MAX_DOCUMENT_BYTES = 16 << 20

_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Preprocessing(_Strict):
    """Preprocessing of pixels; see `Traits`."""

    mean: list[float]
    std: list[float]
    interpolation: str
    resize_mode: str
    fill: int = Field(ge=0, le=255)


class TokenizerFacts(_Strict):
    """Tokenizer of the text tower: CLIP's own, or one of Hugging Face with its name and `Padding`."""

    kind: Literal["clip", "vocabulary"]
    cleaning: str
    context_length: int = Field(ge=3, le=4096)
    name: str = ""
    pad_token: str = ""
    pad_left: bool = False
    zeroed_token: str = ""


class Document(_Strict):
    """`cir_model.json`. `weights` are the digests of the weights by name, from which the identity follows.

    `words` is the part of the identity that files of Hugging Face decide; None where the config says it all.
    """

    format: Literal[1]
    architecture: str
    pretrained: str
    config: dict[str, Any]
    weights: list[tuple[str, _Digest]] = Field(min_length=1)
    dimension: int = Field(ge=1, le=65_536)
    image_size: int = Field(ge=1, le=4096)
    preprocessing: Preprocessing
    quick_gelu: bool
    tokenizer: TokenizerFacts
    words: dict[str, Any] | None = None
    files: dict[str, _Digest]


def read_model_folder(path: Path) -> LightSource:
    """Read a folder whose files are what its document says.

    Raises:
        StartupError: something is missing, damaged or of another kind; the message is one line.
    """
    document = read_document(path)
    traits = _traits(path / DOCUMENT, document)
    missing = [name for name in FILES if name not in document.files]
    if missing:
        raise StartupError(f"{path / DOCUMENT} has no digest of {missing[0]}; export the model again")
    for name in (VISUAL, TEXTUAL):
        if check_onnx(path / name).external:
            raise StartupError(
                f"{path / name} keeps weights in other files; this format has them in the file itself: "
                "export the model again"
            )
    for name in FILES:
        if file_digest(path / name) != document.files[name]:
            raise StartupError(
                f"{path / name} is not the file that {DOCUMENT} describes: it is damaged, cut short or "
                "of another model; copy the whole folder again"
            )
    return LightSource(
        folder=path,
        architecture=document.architecture,
        pretrained=document.pretrained,
        config=document.config,
        digests=document.weights,
        words=document.words,
        dimension=document.dimension,
        image_size=document.image_size,
        traits=traits,
        tokenizer=_tokenizer(path / TOKENIZER, document),
        expected=_read_probe(path / PROBE, document.dimension),
        is_export=False,
    )


def _tokenizer(path: Path, document: Document) -> LightTokenizer:
    facts, vocabulary = document.tokenizer, read_vocabulary(path)
    if facts.kind == CLIP_TOKENIZER:
        return ClipTokenizer(vocabulary, facts.context_length, facts.cleaning)
    padding = Padding(facts.pad_token, facts.pad_left, facts.zeroed_token)
    tokenizer = VocabularyTokenizer(
        vocabulary, facts.context_length, facts.cleaning, padding, name=facts.name
    )
    if tokens_digest(tokenizer(TOKENIZER_TEXTS)) != (document.words or {}).get("tokenizer"):
        raise StartupError(
            f"{path} gives other tokens here than when the model was exported; install the version of "
            "tokenizers that it was exported with, or export the model again"
        )
    return tokenizer


def is_model_folder(path: Path) -> bool:
    """Return true for a folder with a document of this format."""
    return (path / DOCUMENT).is_file()


def write_document(folder: Path, facts: Mapping[str, Any]) -> Document:
    """Write the document of a folder whose files are in place; `facts` are all but format and files."""
    files = {name: file_digest(folder / name) for name in FILES}
    document = Document.model_validate_json(json.dumps({**facts, "format": FORMAT, "files": files}))
    (folder / DOCUMENT).write_text(document.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return document


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        StartupError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise StartupError(
            f"{path} cannot be read ({error.strerror}); copy the whole folder again"
        ) from error


def read_document(folder: Path) -> Document:
    """Read the document of a folder.

    Raises:
        StartupError: it is missing, or no such document.
    """
    path = folder / DOCUMENT
    try:
        if path.stat().st_size > _MAX_DOCUMENT_BYTES:
            raise ValueError(f"it has more than {_MAX_DOCUMENT_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
        stated = json.loads(text)
        number = stated.get("format") if isinstance(stated, dict) else None
        if isinstance(number, int) and number > FORMAT:
            raise ValueError(f"it has format {number}, and this version reads {FORMAT}; install a newer one")
        return Document.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StartupError(
            f"{path} cannot be used: {place}: {first['msg']}; export the model again"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StartupError(f"{path} cannot be used: {reason}; export the model again") from error


def _traits(path: Path, document: Document) -> Traits:
    given = document.preprocessing
    try:
        return Traits(
            mean=parse_mean(given.mean),
            std=parse_std(given.std),
            interpolation=Interpolation(given.interpolation),
            resize_mode=ResizeMode(given.resize_mode),
            quick_gelu=document.quick_gelu,
            fill=given.fill,
        )
    except ValueError as error:
        raise StartupError(
            f"{path} cannot be used: preprocessing: {error}; export the model again"
        ) from error


def _read_probe(path: Path, dimension: int) -> Features:
    try:
        features = np.load(path, allow_pickle=False)
        if features.dtype != np.float32 or features.ndim != 2 or features.shape[1] != dimension:
            raise ValueError(f"{features.dtype} {features.shape}")
        if not np.isfinite(features).all():
            raise ValueError("numbers that are not finite")
    except (OSError, ValueError, EOFError) as error:
        raise StartupError(
            f"{path} holds no features of length {dimension} ({error}); export the model again"
        ) from error
    return np.asarray(features, np.float32)
