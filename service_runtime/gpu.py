"""Sign of a GPU that torch could use, found without loading torch, which takes seconds."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

# Files of the drivers that torch reaches GPUs through: NVIDIA's, AMD's, and those of a Windows host.
_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))


def may_use_gpu() -> bool:
    """Return true where a driver and torch are there."""
    return any(path.exists() for path in _DRIVERS) and find_spec("torch") is not None
