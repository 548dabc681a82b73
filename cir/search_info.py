"""What a service says of itself, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from cir.common.v1 import model_pb2
from cir.search.v1 import search_pb2 as pb


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """An embedding model and what it runs on; `fingerprint` is its identity."""

    fingerprint: str
    architecture: str
    pretrained: str
    dimension: int
    image_size: int
    preprocessing: str
    target_ratio: float
    device: str
    dtype: str
    dtype_cosine: float

    @classmethod
    def read(cls, message: model_pb2.ModelInfo) -> ModelInfo:
        """Read the message."""
        return cls(**{name: getattr(message, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class SearchInfo:
    """The search service. `model` is None while the embedder is away.

    `limits` has the limits by name, as in `cir.search.v1.SearchLimits`; `dependencies` maps "embedder",
    "combiner" and "store" to "ok" or to what is wrong; `store` has facts about the vector store.
    """

    limits: dict[str, int]
    model: ModelInfo | None
    combiners: tuple[str, ...]
    default_combiner: str
    dependencies: dict[str, str]
    store: dict[str, str]
    version: str

    @classmethod
    def read(cls, message: pb.GetSearchInfoResponse) -> SearchInfo:
        """Read the message."""
        return cls(
            limits={
                field.name: getattr(message.limits, field.name) for field in pb.SearchLimits.DESCRIPTOR.fields
            },
            model=ModelInfo.read(message.model) if message.HasField("model") else None,
            combiners=tuple(message.combiners),
            default_combiner=message.default_combiner,
            dependencies=dict(message.dependencies),
            store=dict(message.store),
            version=message.version,
        )
