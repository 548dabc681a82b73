"""One pass of the frozen CLIP over a data set: every image and every text that its queries can need.

The model is handed in (`FeatureModel`), so that this package knows no embedder.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TypeVar

import numpy as np

from combiner_service.combiner import Float32
from combiner_training.datasets.base import Box
from combiner_training.datasets.crops import cut_out
from combiner_training.feature_file import (
    FeatureFileError,
    FeatureHeader,
    FeatureKind,
    FeatureTable,
    FeatureWriter,
    paths_of,
    read_table,
)
from combiner_training.progress import Progress

# Two batches at a time: one is decoded (or on the wire) while the other is computed.
_AT_ONCE = 2
_ROWS_AT_ONCE = 8192
MISSING, EMPTY = "missing", "empty"
_NO_CROPS: Mapping[str, Box] = MappingProxyType({})

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Identity of the model that makes the features; `facts` (architecture, ...) go into the header."""

    fingerprint: str
    dimension: int
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EmbeddedBatch:
    """(n, d) float32 raw features, and by index why a row has none."""

    features: Float32
    errors: Mapping[int, str] = field(default_factory=dict)


class FeatureModel(Protocol):
    """A model that embeds, called from several threads and with at most `batch_items` items."""

    identity: ModelIdentity
    batch_items: int

    def embed_images(self, images: Sequence[bytes]) -> EmbeddedBatch:
        """Embed encoded images."""

    def embed_texts(self, texts: Sequence[str]) -> EmbeddedBatch:
        """Embed texts."""


@dataclass(frozen=True, slots=True)
class ExtractResult:
    """Contents of a file after a run. `reasons` counts the rows without features by why; `mean_length` is
    that of the features, 0 where there are none."""

    kind: FeatureKind
    total: int
    embedded: int
    kept: int
    reasons: Mapping[str, int]
    mean_length: float


def extract_images(
    folder: Path,
    images: Mapping[str, Path],
    model: FeatureModel,
    *,
    crops: Mapping[str, Box] = _NO_CROPS,
    dtype: str | None = None,
    fresh: bool = False,
    progress: Progress,
) -> ExtractResult:
    """Embed images by name, those of `crops` cut out, into the folder's file of images; see `_extract`."""

    def embed(names: Sequence[str]) -> EmbeddedBatch:
        contents: list[bytes] = []
        sound: list[int] = []
        errors: dict[int, str] = {}
        for index, name in enumerate(names):
            content = _content(images[name], crops.get(name))
            if isinstance(content, str):
                errors[index] = content
            else:
                sound.append(index)
                contents.append(content)
        features = np.full((len(names), model.identity.dimension), np.nan, np.float32)
        if contents:
            batch = model.embed_images(contents)
            features[sound] = batch.features
            errors |= {sound[index]: reason for index, reason in batch.errors.items()}
        return EmbeddedBatch(features, errors)

    return _extract(
        paths_of(folder)[0],
        FeatureKind.IMAGES,
        tuple(images),
        embed,
        model,
        dtype,
        fresh=fresh,
        progress=progress,
    )


def extract_texts(
    folder: Path,
    texts: Sequence[str],
    model: FeatureModel,
    *,
    dtype: str | None = None,
    fresh: bool = False,
    progress: Progress,
) -> ExtractResult:
    """Embed texts into the folder's file of texts; see `_extract`."""
    unique = tuple(dict.fromkeys(texts))
    return _extract(
        paths_of(folder)[1],
        FeatureKind.TEXTS,
        unique,
        model.embed_texts,
        model,
        dtype,
        fresh=fresh,
        progress=progress,
    )


def _extract(
    path: Path,
    kind: FeatureKind,
    names: tuple[str, ...],
    embed: Callable[[Sequence[str]], EmbeddedBatch],
    model: FeatureModel,
    dtype: str | None,
    *,
    fresh: bool,
    progress: Progress,
) -> ExtractResult:
    """Write the features of `names`, all of them or none, and list next to the file what has none.

    Rows that a file under `path` has already are kept if their model is this one, unless `fresh`; others of
    it are kept too, so that a folder grows with each split that is extracted into it. Rows without features
    are tried again. A run that was killed is resumed where it was. `dtype` None is that of the file, else
    float16.

    Raises:
        FeatureFileError: There are no names, or the file is of another model or type.
    """
    if not names:
        raise FeatureFileError(f"there are no {kind} to embed; expected at least one")
    known = None if fresh else _known(path, model.identity, dtype)
    if known is not None:
        names = tuple(dict.fromkeys((*names, *known.header.names)))
    header = FeatureHeader(
        kind,
        names,
        model.identity.dimension,
        np.dtype(dtype or (known.header.dtype if known is not None else "float16")),
        model.identity.fingerprint,
        model.identity.facts,
    )
    rejects = _Rejects(path)
    embedded = kept = 0

    def rows_of(part: Sequence[str]) -> tuple[EmbeddedBatch, int]:
        features = np.full((len(part), header.dimension), np.nan, np.float32)
        wanted = list(range(len(part)))
        if known is not None:
            there = {i: known.usable_row(name) for i, name in enumerate(part)}
            found = {i: row for i, row in there.items() if row >= 0}
            if found:
                features[list(found)] = known.take(np.array(list(found.values()), np.int64))
            wanted = [i for i in wanted if i not in found]
        if not wanted:
            return EmbeddedBatch(features), len(part)
        batch = embed([part[i] for i in wanted])
        features[wanted] = batch.features
        errors = {wanted[index]: reason for index, reason in batch.errors.items()}
        usable = np.isfinite(features).all(axis=1) & features.any(axis=1)
        for index in np.flatnonzero(~usable).tolist():
            features[index] = np.nan
            errors.setdefault(index, "the model gives no usable features")
        return EmbeddedBatch(features, errors), len(part) - len(wanted)

    with FeatureWriter(path, header) as writer:
        begun = writer.done
        progress.start(f"{kind}", len(names))
        progress.advance(begun)
        parts = [names[at : at + model.batch_items] for at in range(begun, len(names), model.batch_items)]
        for part, (batch, unchanged) in zip(parts, _in_order(rows_of, parts), strict=True):
            rejects.add({part[index]: reason for index, reason in batch.errors.items()})
            writer.append(batch.features)
            kept += unchanged
            embedded += len(part) - unchanged
            progress.advance(writer.done, f"{rejects.count} without features" if rejects.count else "")
        writer.finish()
    table = read_table(path)
    reasons = rejects.settle({name for name, usable in zip(names, table.usable, strict=True) if not usable})
    return ExtractResult(kind, len(names), embedded, kept + begun, reasons, _mean_length(table))


def _mean_length(table: FeatureTable) -> float:
    rows = np.flatnonzero(table.usable)
    lengths = [
        np.linalg.norm(table.take(rows[start : start + _ROWS_AT_ONCE]), axis=1)
        for start in range(0, len(rows), _ROWS_AT_ONCE)
    ]
    return float(np.concatenate(lengths).mean()) if lengths else 0.0


def _known(path: Path, identity: ModelIdentity, dtype: str | None) -> FeatureTable | None:
    if not path.exists():
        return None
    table = read_table(path)
    if table.header.model_fingerprint != identity.fingerprint:
        raise FeatureFileError(
            f"{path} has features of model {table.header.model_fingerprint}, this model is "
            f"{identity.fingerprint}; extract into another folder, or set `fresh` to replace them"
        )
    if dtype is not None and table.header.dtype != np.dtype(dtype):
        raise FeatureFileError(
            f"{path} holds {table.header.dtype.name}, not {dtype}; extract into another folder, or set "
            "`fresh` to replace them"
        )
    return table


def _content(path: Path, box: Box | None) -> bytes | str:
    """Read the bytes of an image, or say why there are none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    try:
        return (content if box is None else cut_out(content, box)) if content else EMPTY
    except ValueError as error:
        return str(error)


def _in_order(work: Callable[[In], Out], parts: Sequence[In]) -> Iterator[Out]:
    """`map` over parts, a few at a time and no further ahead."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        waiting: deque[Future[Out]] = deque()
        try:
            for part in parts:
                waiting.append(pool.submit(work, part))
                if len(waiting) >= _AT_ONCE:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _Rejects:
    """Names without features and why, as JSON Lines next to the file; kept while the work is interrupted."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.stem}.rejects.jsonl")
        self._reasons: dict[str, str] = {}
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                try:
                    entry = json.loads(line)
                    self._reasons[str(entry["name"])] = str(entry["reason"])
                except (ValueError, KeyError, TypeError):
                    continue  # the end of a line that was being written when the run was killed
        self.count = 0

    def add(self, reasons: Mapping[str, str]) -> None:
        """Note reasons before the rows are written."""
        if reasons:
            self.count += len(reasons)
            self._reasons |= reasons
            with self._path.open("a") as file:
                file.writelines(_line(name, reason) for name, reason in reasons.items())

    def settle(self, names: set[str]) -> dict[str, int]:
        """Keep the entries of these names alone; counts by reason."""
        left = {name: self._reasons.get(name, "not known") for name in sorted(names)}
        if left:
            self._path.write_text("".join(_line(name, reason) for name, reason in left.items()))
        else:
            self._path.unlink(missing_ok=True)
        counts: dict[str, int] = {}
        for reason in left.values():
            short = reason if reason in (MISSING, EMPTY) else "unusable"
            counts[short] = counts.get(short, 0) + 1
        return counts


def _line(name: str, reason: str) -> str:
    return json.dumps({"name": name, "reason": reason}, ensure_ascii=False) + "\n"
