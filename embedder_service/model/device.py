"""The device that the model runs on: its choice, and cores for each forward pass."""

from __future__ import annotations

import os

import torch

from service_runtime.errors import StartupError


def choose_device(name: str) -> torch.device:
    """Return the device for "auto" (CUDA, else CPU), "cpu", "cuda" or "cuda:N".

    Raises:
        StartupError: the name is not known, or there is no such device.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise StartupError(f"device {name!r} is not known; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda":
        index = device.index or 0
        if index >= torch.cuda.device_count():
            raise StartupError(
                f"device {name!r} does not exist: {torch.cuda.device_count()} CUDA devices were found"
            )
        return torch.device("cuda", index)
    return device


class CpuThreadShare:
    """Divides the CPU's cores between forward passes, by setting the number of threads that torch uses.

    `threads` are those of a pass that runs alone, 0 for one per core; `lanes` passes at a time divide them.
    Some versions of torch keep the number for each thread, others for the process: with those, a pass that
    ran alone continues with its part as soon as another begins.
    """

    def __init__(self, threads: int, lanes: int) -> None:
        self._alone = threads or os.cpu_count() or 1
        self._shared = max(1, self._alone // lanes)

    def __call__(self, passes: int) -> None:
        """Set the threads of one of `passes` passes; called on the thread that begins it."""
        torch.set_num_threads(self._alone if passes == 1 else self._shared)
