"""A version's specification as a JSON document, the same on every engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vector_store.catalogs import FieldType, IndexOptions, Quantization, VersionSpec


def spec_to_document(spec: VersionSpec) -> dict[str, Any]:
    """Only strings, integers, booleans and mappings of strings: every engine keeps them unchanged.

    The schema and the model facts are lists of pairs, because engines may restrict mapping keys.
    """
    return {
        "dimension": spec.dimension,
        "model_fingerprint": spec.model_fingerprint,
        "schema": [[name, str(kind)] for name, kind in spec.schema.items()],
        "model": [[name, value] for name, value in spec.model.items()],
        "index": {
            "hnsw_m": spec.index.hnsw_m,
            "hnsw_ef_construct": spec.index.hnsw_ef_construct,
            "quantization": str(spec.index.quantization),
            "vectors_on_disk": spec.index.vectors_on_disk,
            "payload_on_disk": spec.index.payload_on_disk,
            "shards": spec.index.shards,
            "replicas": spec.index.replicas,
            "write_consistency": spec.index.write_consistency,
        },
    }


def spec_from_document(document: Mapping[str, Any]) -> VersionSpec:
    """The inverse of `spec_to_document`. Raises `KeyError` or `ValueError` for a foreign document."""
    index = document["index"]
    return VersionSpec(
        dimension=int(document["dimension"]),
        model_fingerprint=str(document["model_fingerprint"]),
        schema={name: FieldType(kind) for name, kind in document["schema"]},
        model={name: str(value) for name, value in document["model"]},
        index=IndexOptions(
            hnsw_m=int(index["hnsw_m"]),
            hnsw_ef_construct=int(index["hnsw_ef_construct"]),
            quantization=Quantization(index["quantization"]),
            vectors_on_disk=bool(index["vectors_on_disk"]),
            # Documents of older versions do not have these.
            payload_on_disk=bool(index.get("payload_on_disk", False)),
            shards=int(index.get("shards", 0)),
            replicas=int(index.get("replicas", 0)),
            write_consistency=int(index.get("write_consistency", 0)),
        ),
    )
