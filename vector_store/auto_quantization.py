"""When AUTO quantisation compresses."""

from __future__ import annotations

from vector_store.catalogs import Quantization, VersionSpec

QUANTIZE_ABOVE_BYTES = 1 << 30
"""Default size of the float32 vectors above which AUTO searches int8 copies and rescores the best with the
full vectors: 1 GiB, 524,288 vectors of 512. Below it memory is no concern and full vectors are exact."""


def wants_int8(spec: VersionSpec, points: int, above_bytes: int) -> bool:
    """Whether a finished version of `points` vectors is to be compressed."""
    size = 4 * spec.dimension * points
    return spec.index.quantization is Quantization.AUTO and size > above_bytes
