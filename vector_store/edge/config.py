"""A version's specification as the engine's configuration and payload indexes."""

from __future__ import annotations

from qdrant_edge import (
    BinaryQuantizationConfig,
    BoolIndexParams,
    CompressionRatio,
    DatetimeIndexParams,
    EdgeConfig,
    EdgeOptimizersConfig,
    FloatIndexParams,
    GeoIndexParams,
    HnswIndexConfig,
    IntegerIndexParams,
    KeywordIndexParams,
    Memory,
    ProductQuantizationConfig,
    ScalarQuantizationConfig,
    UpdateOperation,
)

from cir.fields import FieldType
from vector_store.edge.optimize import INT8, vector_params
from vector_store.payload_index import data_path, terms_path
from vector_store.types import Quantization, VersionSpec

# Kilobytes of vectors below which a plain scan is as fast as a graph; the engine then builds none.
INDEXING_THRESHOLD_KB = 8_000

_INDEXES = {
    FieldType.KEYWORD: KeywordIndexParams,
    FieldType.INTEGER: IntegerIndexParams,
    FieldType.FLOAT: FloatIndexParams,
    FieldType.BOOL: BoolIndexParams,
    FieldType.DATETIME: DatetimeIndexParams,
    FieldType.GEO: GeoIndexParams,
}


def shard_config(spec: VersionSpec) -> EdgeConfig:
    """The configuration of a new shard. AUTO quantisation is decided when the version is finished."""
    index = spec.index
    return EdgeConfig(
        vectors=vector_params(spec.dimension, on_disk=index.vectors_on_disk),
        hnsw_config=HnswIndexConfig(
            m=index.hnsw_m,
            ef_construct=index.hnsw_ef_construct,
            full_scan_threshold=INDEXING_THRESHOLD_KB,
        ),
        quantization_config=_quantization(index.quantization),
        payload_memory=Memory.Cold if index.payload_on_disk else Memory.Cached,
        optimizers=EdgeOptimizersConfig(indexing_threshold=INDEXING_THRESHOLD_KB),
    )


def field_indexes(spec: VersionSpec) -> list[UpdateOperation]:
    """The payload indexes of the schema: of the values, and of the terms where filters look for those."""
    operations = []
    for name, kind in spec.schema.items():
        if kind in _INDEXES:
            operations.append(UpdateOperation.create_field_index(data_path(name), _INDEXES[kind]()))
        if kind in (FieldType.TEXT, FieldType.BOOL):
            operations.append(UpdateOperation.create_field_index(terms_path(name), KeywordIndexParams()))
    return operations


def _quantization(
    kind: Quantization,
) -> ScalarQuantizationConfig | BinaryQuantizationConfig | ProductQuantizationConfig | None:
    match kind:
        case Quantization.INT8:
            return INT8
        case Quantization.BINARY:
            return BinaryQuantizationConfig(memory=Memory.Pinned)
        case Quantization.PRODUCT:
            return ProductQuantizationConfig(compression=CompressionRatio.X16, memory=Memory.Pinned)
        case Quantization.AUTO | Quantization.NONE:
            return None
