"""Reading the published checkpoint format: a dictionary {epoch, Combiner} written by torch.save.

Read with torch's restricted unpickler, which builds tensors and plain containers and refuses all else,
so that a checkpoint from a stranger cannot run code.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from combiner_service.errors import InvalidCheckpointError
from combiner_service.network_spec import Shape

_EXPECTED = "expected the published dictionary {'epoch': int, 'Combiner': state dict}"


def inspect_clip4cir(path: Path) -> tuple[dict[str, Shape], int | None]:
    """Return the shapes by tensor name, and the epoch, without the weights.

    Raises:
        InvalidCheckpointError: The file is not a checkpoint that can be used.
        OSError: The file cannot be read.
    """
    tensors, epoch = _load(path, device="meta")
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}, epoch


def read_clip4cir(path: Path) -> tuple[dict[str, Tensor], int | None]:
    """Return the tensors by name in the file's dtype, and the epoch.

    Raises:
        InvalidCheckpointError: The file is not a checkpoint that can be used.
        OSError: The file cannot be read.
    """
    return _load(path, device="cpu")


def _load(path: Path, *, device: str) -> tuple[dict[str, Tensor], int | None]:
    # Opened here, so that an OSError says that the file cannot be read; torch raises some for damage too.
    with path.open("rb") as file:
        _check_archive(file)
        file.seek(0)
        content = _unpickle_tensors(file, device)
    return _state_dict(content), _epoch(content)


def _unpickle_tensors(file: BinaryIO, device: str) -> object:
    try:
        return torch.load(file, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise InvalidCheckpointError(
            f"the file holds more than tensors, or is damaged, and was not opened ({_first_line(error)}); "
            + _EXPECTED
        ) from error
    except Exception as error:
        # torch reports damaged content through many classes (RuntimeError, EOFError, KeyError, ...).
        raise InvalidCheckpointError(_damaged(error)) from error


def _check_archive(file: BinaryIO) -> None:
    """Refuse by the list of an archive's files alone: TorchScript, which is a program, and compressed files,
    which could fill the memory from a few bytes (torch.save compresses nothing)."""
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            compressed = any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist())
    except Exception as error:
        # BadZipFile, and for damaged names or lengths also UnicodeDecodeError, struct.error, ...
        raise InvalidCheckpointError(_damaged(error)) from error
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise InvalidCheckpointError(
            "the file is a TorchScript archive, which is a program and is not run; if you trust it, convert "
            "it: torch.save({'epoch': 0, 'Combiner': dict(torch.jit.load(FILE).state_dict())}, 'NAME.pt')"
        )
    if compressed:
        raise InvalidCheckpointError(
            "the file is a compressed archive, which torch.save does not write; save the weights again: "
            + _EXPECTED
        )


def _state_dict(content: object) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        raise InvalidCheckpointError(f"the file holds a {type(content).__name__}; {_EXPECTED}")
    if "Combiner" not in content:
        hint = "; a fine-tuned CLIP belongs to the embedder" if "CLIP" in content else ""
        keys = ", ".join(str(key) for key in list(content)[:6])
        raise InvalidCheckpointError(
            f"the file has no 'Combiner' but: {keys or 'nothing'}; {_EXPECTED}{hint}"
        )
    state = content["Combiner"]
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise InvalidCheckpointError(f"'Combiner' is not a state dict; {_EXPECTED}")
    for name, tensor in state.items():
        # Contiguous also means that the tensor is no larger than the numbers in the file: a view with
        # stride 0 could ask for any amount of memory.
        if not (
            isinstance(tensor, Tensor)
            and tensor.layout is torch.strided
            and tensor.is_floating_point()
            and tensor.is_contiguous()
        ):
            raise InvalidCheckpointError(f"{name} is not a dense tensor of floating-point numbers")
    return dict(state)


def _epoch(content: object) -> int | None:
    epoch = content.get("epoch") if isinstance(content, dict) else None
    # A crafted file may hold a number of any length, which could not even be printed.
    return epoch if isinstance(epoch, int) and 0 <= epoch < 2**63 else None


def _damaged(error: Exception) -> str:
    return (
        f"not a whole file of torch.save ({type(error).__name__}: {_first_line(error)}); copy it again, "
        "under another name and renamed when complete"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no details"])[0][:200]
