"""How many of the CPU's cores a forward pass takes, by how many passes are under way."""

from __future__ import annotations

import os

import torch


class SharedCores:
    """Sets how many threads torch takes for a layer, by how many passes are under way.

    `threads` are those of a pass that is alone, 0 for one per core; `lanes` passes at once divide them. Some
    versions of torch keep the number for each thread, others for the process: then a pass that was alone goes
    on with its share as soon as another begins.
    """

    def __init__(self, threads: int, lanes: int) -> None:
        self._alone = threads or os.cpu_count() or 1
        self._shared = max(1, self._alone // lanes)

    def __call__(self, passes: int) -> None:
        """Take the share of one of this many passes; called on the thread that begins one."""
        torch.set_num_threads(self._alone if passes == 1 else self._shared)
