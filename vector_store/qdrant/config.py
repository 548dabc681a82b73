"""A version's specification as the server's configuration and payload indexes."""

from __future__ import annotations

from qdrant_client import models

from cir.fields import FieldType
from vector_store.payload_index import data_path, terms_path
from vector_store.types import Quantization, VersionSpec

# Kilobytes of vectors in a segment below which a plain scan is as fast as a graph.
INDEXING_THRESHOLD_KB = 8_000

# As on the embedded engine: a lower quantile would cut off the dimensions that tell most.
INT8 = models.ScalarQuantization(
    scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.999, always_ram=True)
)

_INDEXES = {
    FieldType.KEYWORD: models.PayloadSchemaType.KEYWORD,
    FieldType.INTEGER: models.PayloadSchemaType.INTEGER,
    FieldType.FLOAT: models.PayloadSchemaType.FLOAT,
    FieldType.BOOL: models.PayloadSchemaType.BOOL,
    FieldType.DATETIME: models.PayloadSchemaType.DATETIME,
    FieldType.GEO: models.PayloadSchemaType.GEO,
}


def vector_params(spec: VersionSpec) -> models.VectorParams:
    """Length, distance and place of the vectors."""
    return models.VectorParams(
        size=spec.dimension, distance=models.Distance.COSINE, on_disk=spec.index.vectors_on_disk
    )


def hnsw_config(spec: VersionSpec) -> models.HnswConfigDiff:
    """Configure how the graph is built."""
    return models.HnswConfigDiff(
        m=spec.index.hnsw_m,
        ef_construct=spec.index.hnsw_ef_construct,
        full_scan_threshold=INDEXING_THRESHOLD_KB,
    )


def quantization_config(spec: VersionSpec) -> models.QuantizationConfig | None:
    """Configure how vectors are compressed; AUTO is decided when the version is finished."""
    match spec.index.quantization:
        case Quantization.INT8:
            return INT8
        case Quantization.BINARY:
            return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
        case Quantization.PRODUCT:
            return models.ProductQuantization(
                product=models.ProductQuantizationConfig(
                    compression=models.CompressionRatio.X16, always_ram=True
                )
            )
        case Quantization.AUTO | Quantization.NONE:
            return None


def field_indexes(spec: VersionSpec) -> dict[str, models.PayloadSchemaType]:
    """The index of each path: of the values, and of the terms where filters look for those."""
    indexes = {data_path(name): _INDEXES[kind] for name, kind in spec.schema.items() if kind in _INDEXES}
    for name, kind in spec.schema.items():
        if kind in (FieldType.TEXT, FieldType.BOOL):
            indexes[terms_path(name)] = models.PayloadSchemaType.KEYWORD
    return indexes
