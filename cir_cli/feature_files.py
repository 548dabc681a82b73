"""Files of features as commands pass them on: NumPy's .npy, or the JSON that `cir embed --json` prints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cir.vectors import Features
from cir_cli.errors import Failure
from service_runtime.files import replace_file


def read_features(path: Path) -> tuple[NDArray[np.float32], str]:
    """Return the rows of a file, float32 (n, d), and the fingerprint of their model; a .npy knows none.

    Raises:
        Failure: it cannot be read, or holds something else.
    """
    try:
        rows, fingerprint = _read_npy(path) if path.suffix == ".npy" else _read_json(path)
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, EOFError, RecursionError) as error:
        raise Failure(f"{path} holds no features: {error}") from error
    if rows.ndim == 1:
        rows = rows[np.newaxis]
    if rows.ndim != 2 or not rows.size:
        raise Failure(f"{path} has the shape {rows.shape}; expected a row of values for each vector")
    return rows, fingerprint


def read_vector(path: Path) -> Features:
    """Return the one row of a file. Raises as `read_features` does."""
    rows, fingerprint = read_features(path)
    if len(rows) != 1:
        raise Failure(f"{path} has {len(rows)} rows; expected one")
    return Features(rows[0], fingerprint)


def write_npy(path: Path, rows: NDArray[np.float32]) -> None:
    """Write rows as .npy, whole or not at all.

    Raises:
        Failure: the file cannot be written.
    """
    try:
        with replace_file(path, durable=False) as temporary, temporary.open("wb") as file:
            np.save(file, rows, allow_pickle=False)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror or error}") from error


def _read_npy(path: Path) -> tuple[NDArray[np.float32], str]:
    with path.open("rb") as file:
        return _as_rows(np.lib.format.read_array(file, allow_pickle=False)), ""


def _read_json(path: Path) -> tuple[NDArray[np.float32], str]:
    document = json.loads(path.read_text(encoding="utf-8"))
    fingerprint = document["model_fingerprint"]
    if not isinstance(fingerprint, str):
        raise TypeError("model_fingerprint is no text")
    return _as_rows(document["vectors"]), fingerprint


def _as_rows(values: object) -> NDArray[np.float32]:
    rows = np.asarray(values)
    if rows.dtype.kind not in "fiu":
        raise TypeError(f"values of type {rows.dtype}, not numbers")
    return rows.astype(np.float32)
