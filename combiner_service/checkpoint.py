"""Reading and writing Combiner checkpoints, in two formats told apart by the file's ending.

- `.safetensors`: our own, with metadata in the header (`checkpoint_metadata`); also a bare state dict.
- `.pt`, `.pth`: the published `{epoch, Combiner}` dictionary of torch.save.

Neither is ever unpickled: a file can hold numbers, not code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from combiner_service.atomic_file import replacing
from combiner_service.checkpoint_metadata import CheckpointMetadata, from_header, to_header
from combiner_service.errors import InvalidCheckpointError
from combiner_service.network_sizes import NetworkSizes, sizes_from_shapes
from service_runtime.settings import software_version

if TYPE_CHECKING:
    from torch import Tensor

SAFETENSORS_ENDING = ".safetensors"
PUBLISHED_ENDINGS = (".pt", ".pth")
ENDINGS = (SAFETENSORS_ENDING, *PUBLISHED_ENDINGS)
# A header of ours has about 2,000 bytes; its reader would take 100 MB of JSON.
_MAX_HEADER_BYTES = 1 << 20
_FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class CheckpointSummary:
    """A checkpoint without its weights."""

    sizes: NetworkSizes
    metadata: CheckpointMetadata


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint with its weights: float32 tensors on the CPU under the published names, all finite."""

    sizes: NetworkSizes
    metadata: CheckpointMetadata
    weights: Mapping[str, Tensor]


def inspect_checkpoint(path: Path) -> CheckpointSummary:
    """Names, shapes and metadata of a checkpoint, without reading its weights.

    For `.safetensors` torch is not imported. Raises InvalidCheckpointError, OSError.
    """
    if path.suffix in PUBLISHED_ENDINGS:
        from combiner_service.published_checkpoint import inspect_published

        shapes, epoch = inspect_published(path)
        return CheckpointSummary(sizes_from_shapes(shapes), CheckpointMetadata(epoch=epoch))
    _check_ending(path)
    _check_header_length(path)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            wrong = [name for name, part in slices.items() if part.get_dtype() not in _FLOAT_DTYPES]
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            header = file.metadata() or {}
    except SafetensorError as error:
        raise InvalidCheckpointError(_damaged(error)) from error
    sizes = sizes_from_shapes(shapes)
    if wrong:
        raise InvalidCheckpointError(f"{wrong[0]} does not hold floating-point numbers")
    return CheckpointSummary(sizes, from_header(header, sizes))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint with its weights. Raises InvalidCheckpointError, OSError."""
    if path.suffix in PUBLISHED_ENDINGS:
        from combiner_service.published_checkpoint import read_published

        tensors, epoch = read_published(path)
        sizes = sizes_from_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()})
        metadata = CheckpointMetadata(epoch=epoch)
    else:
        summary = inspect_checkpoint(path)
        sizes, metadata = summary.sizes, summary.metadata
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            # Read whole, not mapped: a file that is cut short while it is mapped kills the process.
            tensors = load(path.read_bytes())
        except SafetensorError as error:
            raise InvalidCheckpointError(_damaged(error)) from error
    weights = {name: tensor.float() for name, tensor in tensors.items()}
    for name, tensor in weights.items():
        if not bool(tensor.isfinite().all()):
            raise InvalidCheckpointError(
                f"{name} has NaN or infinity; the training diverged or the file is damaged"
            )
    return Checkpoint(sizes, metadata, weights)


def write_checkpoint(path: Path, weights: Mapping[str, Tensor], metadata: CheckpointMetadata) -> None:
    """Write our own format, whole or not at all: into a file beside `path` that is then renamed.

    A service that watches the folder never sees half of it. Metadata without a `software_version` gets that
    of this software. Raises InvalidCheckpointError for weights that are not a Combiner's, ValueError for
    metadata that cannot be written, OSError.
    """
    if path.suffix != SAFETENSORS_ENDING:
        raise ValueError(f"{path.name} must end in {SAFETENSORS_ENDING}, the format that carries metadata")
    sizes = sizes_from_shapes({name: tuple(tensor.shape) for name, tensor in weights.items()})
    metadata = replace(metadata, software_version=metadata.software_version or software_version())
    from safetensors.torch import save

    content = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()},
        metadata=to_header(metadata, sizes),
    )
    with replacing(path) as temporary:
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
