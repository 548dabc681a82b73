"""Build the vector index of a closed shard: `python edge_optimize.py SHARD [DIMENSION]`.

The engine keeps the interpreter lock while it builds, so in the writer's own process every task would
stand still for minutes. This file runs as its own process and imports nothing of the project.
"""

from __future__ import annotations

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


def optimize(path: str, *, int8_dimension: int | None) -> None:
    """Open the shard at `path`, build its index and close it.

    `int8_dimension`, the length of its vectors, also compresses them to 8 bits for search.
    """
    config = None
    if int8_dimension is not None:
        # What is left out here stays as the shard has it; the vectors must be named again.
        config = EdgeConfig(
            vectors=EdgeVectorParams(size=int8_dimension, distance=Distance.Cosine),
            quantization_config=ScalarQuantizationConfig(
                type=ScalarType.Int8, quantile=0.99, memory=Memory.Pinned
            ),
        )
    shard = EdgeShard.load(path, config)
    try:
        shard.optimize()
        shard.flush()
    finally:
        shard.close()


if __name__ == "__main__":
    optimize(sys.argv[1], int8_dimension=int(sys.argv[2]) if len(sys.argv) > 2 else None)
