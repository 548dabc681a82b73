"""What a version is told about the model that made its vectors. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from cir.common.v1.model_pb2 import ModelInfo
from indexer.options import IndexingOptions
from vector_store.types import FieldType, VersionSpec


def version_spec(model: ModelInfo, schema: Mapping[str, FieldType], options: IndexingOptions) -> VersionSpec:
    """The specification of a new version from the embedder's answer and the source's schema."""
    facts = {
        "architecture": model.architecture,
        "pretrained": model.pretrained,
        "preprocessing": model.preprocessing,
        "target_ratio": f"{model.target_ratio:g}",
        "image_size": str(model.image_size),
        "dtype": model.dtype,
    }
    return VersionSpec(
        dimension=model.dimension,
        model_fingerprint=model.fingerprint,
        schema=dict(schema),
        model={name: value for name, value in facts.items() if value},
        index=options.vector_index,
    )
