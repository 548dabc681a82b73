"""How many of the CPU's cores a forward pass takes, by how many passes are under way."""

from __future__ import annotations

import os

import torch


class SharedCores:
    """Sets torch's threads for the calling thread, which is how torch keeps them on a CPU.

    `threads` are those of a pass that is alone, 0 for one per core; `lanes` passes at once divide them.
    """

    def __init__(self, threads: int, lanes: int) -> None:
        self._alone = threads or os.cpu_count() or 1
        self._shared = max(1, self._alone // lanes)

    def __call__(self, passes: int) -> None:
        """Take the share of one of this many passes, for the pass that the calling thread begins."""
        torch.set_num_threads(self._alone if passes == 1 else self._shared)
