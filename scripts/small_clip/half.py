"""A Combiner's checkpoint in half the bytes, as it ships: the same values, rounded to float16.

python -m scripts.small_clip.half TRAINED.safetensors OUT.safetensors
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from combiner_service.checkpoint import read_checkpoint, write_checkpoint


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, round, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("trained", type=Path, help="checkpoint as cir train writes it")
    parser.add_argument("out", type=Path, help="file to write")
    options = parser.parse_args(arguments)
    held = read_checkpoint(options.trained)
    halved = {name: values.astype(np.float16) for name, values in held.weights.items()}
    write_checkpoint(options.out, halved, held.metadata)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
