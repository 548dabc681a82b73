"""Reading and writing checkpoints of Combiners and of phi, with their metadata, by the file's ending.

- `.safetensors`: our own, with metadata in the header; also a bare state dict.
- `.pt`, `.pth`: dictionaries of torch.save: `{epoch, Combiner}` as CLIP4Cir publishes, `{epoch, Phi}` as
  SEARLE and LinCIR do.

Neither is ever unpickled: a file can hold numbers, not code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save

from combiner_service.combiner import Float32
from combiner_service.errors import InvalidCheckpointError
from combiner_service.network_spec import NetworkSizes, PhiSizes, any_sizes
from combiner_service.torch_archive import inspect_archive, read_archive, widen
from service_runtime.files import replace_file
from service_runtime.settings import software_version

Sizes = NetworkSizes | PhiSizes

FORMAT_KEY = "cir_format"
FORMATS: Mapping[type, str] = {NetworkSizes: "combiner/1", PhiSizes: "inversion/1"}
_MAX_CHARACTERS = 16_384
_TEXTS = ("model_fingerprint", "training_data", "protocol", "software_version")
_SIZES = tuple(dict.fromkeys(item.name for kind in FORMATS for item in fields(kind)))
_OWN = (FORMAT_KEY, *_SIZES, *_TEXTS, "metrics", "epoch")


@dataclass(frozen=True, slots=True)
class CheckpointMetadata:
    """Origin of a checkpoint. Empty values mean: it does not say.

    `model_fingerprint` names the model whose features it was trained on; `protocol` says how `metrics`
    were measured (gallery, caption joining, reference kept or removed), for a number without its
    protocol cannot be compared. `software_version` is that of the program that wrote the file; `extra` keeps
    what else the header holds.
    """

    model_fingerprint: str = ""
    training_data: str = ""
    protocol: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    epoch: int | None = None
    software_version: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)

    def texts(self) -> dict[str, str]:
        """All that is known, as text by name; the fingerprint is left out because it travels on its own."""
        known = dict(self.extra)
        if self.training_data:
            known["training_data"] = self.training_data
        if self.protocol:
            known["protocol"] = self.protocol
        if self.metrics:
            known["metrics"] = json.dumps(dict(self.metrics), sort_keys=True)
        if self.epoch is not None:
            known["epoch"] = str(self.epoch)
        if self.software_version:
            known["software_version"] = self.software_version
        return known


def metadata_to_header(metadata: CheckpointMetadata, sizes: Sizes) -> dict[str, str]:
    """The header of our own format. ValueError for names in `extra` that the format uses itself."""
    clash = sorted(set(metadata.extra) & set(_OWN))
    if clash:
        raise ValueError(f"extra metadata uses names of the format itself: {', '.join(clash)}")
    if not all(math.isfinite(value) for value in metadata.metrics.values()):
        raise ValueError(f"metrics must be finite numbers, not {dict(metadata.metrics)}")
    header = {
        FORMAT_KEY: FORMATS[type(sizes)],
        **{item.name: str(getattr(sizes, item.name)) for item in fields(sizes)},
    }
    if metadata.model_fingerprint:
        header["model_fingerprint"] = metadata.model_fingerprint
    return {**header, **metadata.texts()}


def metadata_from_header(header: Mapping[str, str], sizes: Sizes) -> CheckpointMetadata:
    """Read a header; `sizes` are those of the tensors in the same file.

    A header without our format key belongs to a bare state dict: it is kept as `extra` and says nothing.

    Raises:
        InvalidCheckpointError: Another version of the format, values that cannot be read, or sizes that
            differ from those of the tensors.
    """
    length = sum(len(name) + len(value) for name, value in header.items())
    if length > _MAX_CHARACTERS:
        raise InvalidCheckpointError(
            f"the header's metadata has {length} characters; at most {_MAX_CHARACTERS} are read, "
            "because every listing carries them"
        )
    if FORMAT_KEY not in header:
        return CheckpointMetadata(extra=dict(header))
    expected = FORMATS[type(sizes)]
    if header[FORMAT_KEY] != expected:
        raise InvalidCheckpointError(
            f"the header says {FORMAT_KEY}={header[FORMAT_KEY]!r}; this version reads {expected!r}"
        )
    for name in (item.name for item in fields(sizes)):
        if header.get(name) != str(getattr(sizes, name)):
            raise InvalidCheckpointError(
                f"the header says {name}={header.get(name)}, the tensors say {getattr(sizes, name)}; "
                "the file was put together from two checkpoints, write it again"
            )
    return CheckpointMetadata(
        **{name: header.get(name, "") for name in _TEXTS},
        metrics=_metrics(header.get("metrics", "{}")),
        epoch=_epoch(header["epoch"]) if "epoch" in header else None,
        extra={name: value for name, value in header.items() if name not in _OWN},
    )


def _metrics(text: str) -> dict[str, float]:
    try:
        values = json.loads(text)
        metrics = {str(name): float(value) for name, value in values.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidCheckpointError(
            f"metrics in the header are not a JSON object of numbers: {error}"
        ) from error
    if not all(math.isfinite(value) for value in metrics.values()):
        raise InvalidCheckpointError("metrics in the header are not all finite numbers")
    return metrics


def _epoch(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise InvalidCheckpointError(f"epoch in the header is {text!r}, not a whole number") from error


SAFETENSORS_ENDING = ".safetensors"
CLIP4CIR_ENDINGS = (".pt", ".pth")
ENDINGS = (SAFETENSORS_ENDING, *CLIP4CIR_ENDINGS)
# A header of ours has about 2,000 bytes; its reader would take 100 MB of JSON.
_MAX_HEADER_BYTES = 1 << 20
_OTHER_FORMATS = {
    "training/": "this is the state of a training, not a checkpoint; take best.safetensors or "
    "last.safetensors next to it",
    "features/": "these are features, not a checkpoint",
}
_DTYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class CheckpointSummary:
    """A checkpoint without its weights."""

    sizes: Sizes
    metadata: CheckpointMetadata


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint with its weights: float32 arrays under the published names, all finite."""

    sizes: Sizes
    metadata: CheckpointMetadata
    weights: Mapping[str, Float32]


def inspect_checkpoint(path: Path) -> CheckpointSummary:
    """Read names, shapes and metadata of a checkpoint, without its weights.

    Raises:
        InvalidCheckpointError: The file is not a checkpoint that can be used.
        OSError: The file cannot be read.
    """
    if path.suffix in CLIP4CIR_ENDINGS:
        shapes, epoch = inspect_archive(path)
        return CheckpointSummary(any_sizes(shapes), CheckpointMetadata(epoch=epoch))
    _check_ending(path)
    _check_header_length(path)
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            wrong = [name for name, part in slices.items() if part.get_dtype() not in _DTYPES]
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            header = file.metadata() or {}
    except SafetensorError as error:
        raise InvalidCheckpointError(_damaged(error)) from error
    for begin, meaning in _OTHER_FORMATS.items():
        if header.get(FORMAT_KEY, "").startswith(begin):
            raise InvalidCheckpointError(meaning)
    sizes = any_sizes(shapes)
    if wrong:
        raise InvalidCheckpointError(f"{wrong[0]} does not hold floating-point numbers")
    return CheckpointSummary(sizes, metadata_from_header(header, sizes))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint with its weights.

    Raises:
        InvalidCheckpointError: The file is not a checkpoint that can be used.
        OSError: The file cannot be read.
    """
    if path.suffix in CLIP4CIR_ENDINGS:
        weights, epoch = read_archive(path)
        sizes = any_sizes({name: array.shape for name, array in weights.items()})
        metadata = CheckpointMetadata(epoch=epoch)
    else:
        summary = inspect_checkpoint(path)
        sizes, metadata = summary.sizes, summary.metadata
        try:
            # Read whole, not mapped: a file that is cut short while it is mapped kills the process.
            tensors = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
            weights = {
                name: widen(part["data"], _DTYPES[part["dtype"]]).reshape(part["shape"])
                for name, part in tensors
            }
        except (SafetensorError, KeyError) as error:
            # Of another type than inspected: the file was replaced meanwhile.
            raise InvalidCheckpointError(_damaged(error)) from error
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise InvalidCheckpointError(
                f"{name} has NaN or infinity; the training diverged or the file is damaged"
            )
    return Checkpoint(sizes, metadata, weights)


def write_checkpoint(path: Path, weights: Mapping[str, Float32], metadata: CheckpointMetadata) -> None:
    """Write our own format, whole or not at all: into a file next to `path` that is then renamed.

    A service that watches the folder never sees half of it. Metadata without a `software_version` gets that
    of this software. Arrays of float16 and float64 keep their type.

    Raises:
        InvalidCheckpointError: The weights are those of no network.
        ValueError: The metadata cannot be written.
        OSError: The file cannot be written.
    """
    if path.suffix != SAFETENSORS_ENDING:
        raise ValueError(f"{path.name} must end in {SAFETENSORS_ENDING}, the format that carries metadata")
    sizes = any_sizes({name: array.shape for name, array in weights.items()})
    metadata = replace(metadata, software_version=metadata.software_version or software_version())
    content = save(
        {name: np.ascontiguousarray(array) for name, array in weights.items()},
        metadata=metadata_to_header(metadata, sizes),
    )
    with replace_file(path) as temporary:
        temporary.write_bytes(content)


def _check_ending(path: Path) -> None:
    if path.suffix not in ENDINGS:
        raise InvalidCheckpointError(f"{path.name} ends in none of {', '.join(ENDINGS)}")


def _check_header_length(path: Path) -> None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > _MAX_HEADER_BYTES:
        raise InvalidCheckpointError(
            f"not a whole safetensors file, or not a Combiner's: its header claims {length} bytes, at most "
            f"{_MAX_HEADER_BYTES} are read; write the file again"
        )


def _damaged(error: Exception) -> str:
    return (
        f"not a whole safetensors file ({error}); copy it again, under another name and renamed when complete"
    )
