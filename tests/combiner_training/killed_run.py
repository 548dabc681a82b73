"""A training in a process of its own that kills itself, as `kill -9` would, after so many optimizer steps.

Usage: python -m tests.combiner_training.killed_run FOLDER STEPS
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from combiner_training.train import train
from tests.combiner_training.task import OPTIONS, Silent, ready


def main(folder: Path, steps: int) -> None:
    """Train until the step, and die in it."""
    torch.set_num_threads(1)
    taken = 0
    step = torch.optim.Adam.step

    def counted(self: torch.optim.Adam, closure: None = None) -> object:
        nonlocal taken
        taken += 1
        if taken > steps:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, closure)

    torch.optim.Adam.step = counted  # type: ignore[method-assign]
    data, validation = ready()
    train(data, validation, OPTIONS, folder, progress=Silent())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
