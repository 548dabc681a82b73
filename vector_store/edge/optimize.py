"""Build the vector index of a closed shard: `python optimize.py SHARD DIMENSION NICE PARENT MEMORY`.

The engine keeps the interpreter lock while it builds, so in the writer's own process every task would
stand still for minutes. This file runs as its own process and imports nothing of the project.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeVectorParams,
    Memory,
    ScalarQuantizationConfig,
    ScalarType,
)

INT8 = ScalarQuantizationConfig(type=ScalarType.Int8, quantile=0.999, memory=Memory.Pinned)
"""Values outside the quantile are cut off. Embeddings have a few dimensions with large values that tell much:
with 0.99 these are cut, and no `ef` brings recall back."""


def vector_params(dimension: int, *, on_disk: bool) -> EdgeVectorParams:
    """Vectors of a shard: read from disk, or kept in memory as far as there is room."""
    return EdgeVectorParams(
        size=dimension, distance=Distance.Cosine, memory=Memory.Cold if on_disk else Memory.Cached
    )


def optimize(path: str, *, int8_dimension: int | None, on_disk: bool) -> None:
    """Open the shard at `path`, build its index and close it.

    `int8_dimension`, the length of its vectors, also compresses them to 8 bits for search; the full ones are
    then `on_disk` or not, as they were.
    """
    config = None
    if int8_dimension is not None:
        # What is left out here stays as the shard has it; the vectors must be named again, as a whole.
        config = EdgeConfig(vectors=vector_params(int8_dimension, on_disk=on_disk), quantization_config=INT8)
    shard = EdgeShard.load(path, config)
    try:
        shard.optimize()
        shard.flush()
    finally:
        shard.close()


def end_with_parent(parent: int) -> None:
    """Have the system kill this process when its parent, the process `parent`, dies. Works on Linux only.

    Nobody would wait for what it builds, and it would keep the shard from being opened again.
    """
    set_death_signal = 1
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            raise SystemExit("the parent process is gone")


if __name__ == "__main__":
    end_with_parent(int(sys.argv[4]))
    if hasattr(os, "nice"):  # Windows has none
        os.nice(int(sys.argv[3]))
    # A length of 0 leaves the vectors uncompressed.
    optimize(sys.argv[1], int8_dimension=int(sys.argv[2]) or None, on_disk=sys.argv[5] == "disk")
