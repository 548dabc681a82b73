"""Options of how a version of a catalog is indexed and kept."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Quantization(StrEnum):
    """How vectors are compressed for search, as the vector store names it."""

    AUTO = "auto"
    NONE = "none"
    INT8 = "int8"
    BINARY = "binary"
    PRODUCT = "product"


Quantize = Annotated[
    Quantization,
    typer.Option(
        "--quantization",
        help="Compress vectors for search; the best are scored again with the full ones. auto: int8 above "
        "--quantize-above-bytes.",
    ),
]
QuantizeAbove = Annotated[
    int,
    typer.Option(
        "--quantize-above-bytes",
        min=0,
        metavar="BYTES",
        help="Size of the full vectors (4 bytes a dimension and item) above which auto compresses.",
    ),
]
HnswM = Annotated[int, typer.Option("--hnsw-m", min=2, max=256, help="Links of an item in the index.")]
HnswEfConstruct = Annotated[
    int,
    typer.Option(
        "--hnsw-ef-construct", min=4, max=4096, help="Candidates for links when the index is built."
    ),
]
VectorsOnDisk = Annotated[
    bool,
    typer.Option("--vectors-on-disk", help="Leave full vectors on disk; compressed ones stay in memory."),
]
PayloadOnDisk = Annotated[bool, typer.Option("--payload-on-disk", help="Leave payloads on disk.")]


def _of_a_cluster(option: str, what: str, *, unasked: str) -> Any:
    return typer.Option(option, min=0, max=1024, help=f"Qdrant server: {what}; 0: {unasked}.")


_PIECES = ("--shards", "pieces of the version")
_COPIES = ("--replicas", "copies of each piece")
_TAKEN = ("--write-consistency", "copies that must have taken a write")
_DEFAULT = "its default"
_AS_IT_HAD = "as the version that is read"

Shards = Annotated[int, _of_a_cluster(*_PIECES, unasked=_DEFAULT)]
Replicas = Annotated[int, _of_a_cluster(*_COPIES, unasked=_DEFAULT)]
WriteConsistency = Annotated[int, _of_a_cluster(*_TAKEN, unasked=_DEFAULT)]
CopyShards = Annotated[int, _of_a_cluster(*_PIECES, unasked=_AS_IT_HAD)]
CopyReplicas = Annotated[int, _of_a_cluster(*_COPIES, unasked=_AS_IT_HAD)]
CopyWriteConsistency = Annotated[int, _of_a_cluster(*_TAKEN, unasked=_AS_IT_HAD)]
StoreCaFile = Annotated[
    Path | None,
    typer.Option("--store-ca-file", help="Authority (PEM) to trust for qdrants://; default: the system's."),
]

DEFAULT_QUANTIZE_ABOVE = 1 << 30
