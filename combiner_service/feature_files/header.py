"""The header of a feature file: which features it holds, and of which model. Pure.

A feature file is a safetensors file with one matrix, "features", so that other tools read it too. Its
metadata say whose rows they are and which model made them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

FORMAT_KEY = "cir_format"
FORMAT = "features/1"
TENSOR = "features"
#: What safetensors' own readers take.
MAX_HEADER_BYTES = 100_000_000
_ALIGNMENT = 64
_DTYPES = {"F16": "<f2", "F32": "<f4"}


class FeatureFileError(ValueError):
    """What is wrong with feature files, or with how they fit a data set; the message says what to do."""


class Kind(StrEnum):
    """What the rows are features of."""

    IMAGES = "images"
    TEXTS = "texts"


@dataclass(frozen=True, slots=True)
class FeatureHeader:
    """What a file says of its (n, d) matrix of raw features.

    `names` are image names or whole texts, unique, one for each row. `model` has what is known of the model
    beside its fingerprint: architecture, weights, preprocessing, target ratio, image size. `dtype` is float16
    or float32.
    """

    kind: Kind
    names: tuple[str, ...]
    dimension: int
    dtype: np.dtype[np.floating]
    model_fingerprint: str
    model: Mapping[str, str]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dimension * self.dtype.itemsize


def to_bytes(header: FeatureHeader) -> bytes:
    """Everything before the matrix. Raises FeatureFileError where there is nothing to hold or too much to
    say."""
    count, dimension = len(header.names), header.dimension
    if not count or not dimension:
        raise FeatureFileError(
            f"{count} rows of {dimension} values make no feature file; expected at least one"
        )
    code = next(code for code, dtype in _DTYPES.items() if np.dtype(dtype) == header.dtype)
    document = {
        "__metadata__": {
            FORMAT_KEY: FORMAT,
            "kind": str(header.kind),
            "model_fingerprint": header.model_fingerprint,
            "model": json.dumps(dict(header.model), sort_keys=True),
            "names": json.dumps(header.names, ensure_ascii=False),
        },
        TENSOR: {
            "dtype": code,
            "shape": [count, dimension],
            "data_offsets": [0, count * header.row_bytes],
        },
    }
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    if len(text) > MAX_HEADER_BYTES:
        raise FeatureFileError(
            f"the names take {len(text)} bytes of header, at most {MAX_HEADER_BYTES} can be read; "
            "extract fewer splits into one folder"
        )
    return len(text).to_bytes(8, "little") + text


def from_bytes(text: bytes) -> FeatureHeader:
    """Read the JSON of a header. Raises FeatureFileError."""
    try:
        document = json.loads(text)
        metadata, tensor = document["__metadata__"], document[TENSOR]
        if metadata[FORMAT_KEY] != FORMAT:
            raise FeatureFileError(
                f"the header says {FORMAT_KEY}={metadata[FORMAT_KEY]!r}; this version reads {FORMAT!r}"
            )
        names = tuple(json.loads(metadata["names"]))
        count, dimension = (int(size) for size in tensor["shape"])
        header = FeatureHeader(
            Kind(metadata["kind"]),
            names,
            dimension,
            np.dtype(_DTYPES[tensor["dtype"]]),
            str(metadata["model_fingerprint"]),
            {str(key): str(value) for key, value in json.loads(metadata["model"]).items()},
        )
        whole = tensor["data_offsets"] == [0, count * header.row_bytes]
    except FeatureFileError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FeatureFileError(
            f"not a feature file ({type(error).__name__}: {error}); make one with: cir features extract"
        ) from None
    if not whole or count != len(names) or len(set(names)) != count or min(count, dimension) < 1:
        raise FeatureFileError(
            f"the header has {len(set(names))} names for {count} rows of {dimension} values; "
            "the file was put together from two, extract it again"
        )
    return header
