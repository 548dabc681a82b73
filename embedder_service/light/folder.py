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
from embedder_service.identity import Digests
from embedder_service.images.normalisation import parse_mean, parse_std
from embedder_service.images.preprocess import Interpolation, ResizeMode
from embedder_service.light.onnx_file import check_onnx
from embedder_service.traits import Traits
from service_runtime.errors import StartupError

DOCUMENT = "cir_model.json"
VISUAL, TEXTUAL = "visual/model.onnx", "textual/model.onnx"
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
    """Tokenizer of the text tower."""

    kind: Literal["clip"]
    cleaning: str
    context_length: int = Field(ge=3, le=4096)


class Document(_Strict):
    """`cir_model.json`. `weights` are the digests of the weights by name, from which the identity follows."""

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
    files: dict[str, _Digest]


class ModelFolder:
    """A folder whose document is read and whose files are what the document says.

    Raises:
        StartupError: something is missing, damaged or of another kind; the message is one line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.document = read_document(path)
        self.traits = _traits(path / DOCUMENT, self.document)
        missing = [name for name in FILES if name not in self.document.files]
        if missing:
            raise StartupError(f"{path / DOCUMENT} has no digest of {missing[0]}; export the model again")
        for name in (VISUAL, TEXTUAL):
            if check_onnx(path / name).external:
                raise StartupError(
                    f"{path / name} keeps weights in other files; this format has them in the file itself: "
                    "export the model again"
                )
        for name in FILES:
            if file_digest(path / name) != self.document.files[name]:
                raise StartupError(
                    f"{path / name} is not the file that {DOCUMENT} describes: it is damaged, cut short or "
                    "of another model; copy the whole folder again"
                )
        self.expected = _read_probe(path / PROBE, self.document.dimension)

    @property
    def digests(self) -> Digests:
        """Name and digest of each weight."""
        return self.document.weights


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
