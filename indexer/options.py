"""Options of a run, in one typed place; `cir index` offers each as a flag."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from vector_store.catalogs import IndexOptions


class IndexingOptions(BaseModel):
    """How a run goes. Raises `pydantic.ValidationError`, a `ValueError`, for values out of range."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rejects_path: Path | None = Field(
        default=None,
        description="File for rejected items, JSON Lines. Default: beside the folder or manifest.",
    )
    max_reject_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Nothing is published when a larger share of the items is rejected.",
    )
    keep_versions: int = Field(default=3, ge=0, description="Versions kept beside the published one.")
    vector_index: IndexOptions = Field(
        default=IndexOptions(), description="How the vector index of the version is built."
    )
    batch_items: int = Field(
        default=32,
        ge=1,
        description="Pictures in one call to the embedder, at most; its own limit is kept as well.",
    )
    batch_bytes: int = Field(
        default=16 * 1024 * 1024,
        ge=1,
        description="Bytes of pictures in one call to the embedder; a larger picture goes alone.",
    )
    calls_in_flight: int = Field(
        default=4, ge=1, le=256, description="Calls to the embedder at the same time."
    )
    read_threads: int = Field(
        default=4, ge=1, le=256, description="Pictures read from disk at the same time."
    )
    write_items: int = Field(default=256, ge=1, description="Items written to the store at a time.")
    call_timeout_seconds: float = Field(
        default=120.0, gt=0, description="Seconds that one call to the embedder may take."
    )
    connect_seconds: float = Field(
        default=10.0, ge=0, description="Seconds to wait for the embedder to answer at the start."
    )
    retry_seconds: float = Field(
        default=120.0,
        ge=0,
        description="Seconds that a batch is tried again while embedder or store is away or full.",
    )
    verify_items: int = Field(
        default=8,
        ge=0,
        description="Items read back and searched for in the finished version before it is published.",
    )
