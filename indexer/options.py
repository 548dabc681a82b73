"""Options of a run: names, defaults, bounds and help texts in one typed place."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from cir.channel import TlsFiles
from vector_store.types import IndexOptions


class IndexingOptions(BaseModel):
    """Options of a run.

    Raises:
        pydantic.ValidationError: a `ValueError`, for values out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rejects_path: Path | None = Field(
        default=None,
        description="File for rejected items, JSON Lines. Default: next to the folder or manifest.",
    )
    ledger_path: Path | None = Field(
        default=None,
        description="File that remembers what was indexed, one for each catalog and store. Default: next to "
        "the folder or manifest.",
    )
    rebuild_ledger: bool = Field(
        default=False, description="Make the ledger anew from the published version before the run."
    )
    keep_features: bool = Field(
        default=False,
        description="Keep features in the ledger as well: for stores whose published version may be open in "
        "another process, such as edge://.",
    )
    checksum: bool = Field(
        default=False, description="Read and hash every image instead of trusting size and time of change."
    )
    sync: bool = Field(
        default=False, description="Delete items that are not in the source; otherwise they stay."
    )
    max_delete_share: float = Field(
        default=0.3, ge=0, le=1, description="Larger shares are not deleted unless allow_delete is set."
    )
    allow_delete: bool = Field(
        default=False, description="Delete whatever share is gone from the source, also everything."
    )
    dry_run: bool = Field(default=False, description="Only say what would change; nothing is written.")
    always_publish: bool = Field(
        default=False, description="Publish a new version also when nothing has changed."
    )
    near_duplicates_path: Path | None = Field(
        default=None, description="File for pairs of items that look alike, JSON Lines."
    )
    near_duplicates_cosine: float = Field(
        default=0.97, ge=0.01, le=1, description="Cosine from which two items look alike."
    )
    max_reject_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Nothing is published when a larger share of the items is rejected.",
    )
    keep_versions: int = Field(default=3, ge=0, description="Versions kept next to the published one.")
    vector_index: IndexOptions = Field(
        default=IndexOptions(), description="How the vector index of the version is built."
    )
    batch_items: int = Field(
        default=32,
        ge=1,
        description="Images in one call to the embedder, at most; its own limit is kept as well.",
    )
    batch_bytes: int = Field(
        default=16 * 1024 * 1024,
        ge=1,
        description="Bytes of images in one call to the embedder; a larger image goes alone.",
    )
    calls_in_flight: int = Field(
        default=4,
        ge=1,
        le=256,
        description="Calls to the embedder at the same time, which is also the most batches "
        "that are encoded again after a crash.",
    )
    read_threads: int = Field(default=4, ge=1, le=256, description="Images read from disk at the same time.")
    write_items: int = Field(default=256, ge=1, description="Items written to the store at a time.")
    call_timeout_seconds: float = Field(
        default=120.0, gt=0, description="Seconds that one call to the embedder may take."
    )
    connect_seconds: float = Field(
        default=10.0, ge=0, description="Seconds to wait for the embedder to answer at the start."
    )
    embedder_api_key: SecretStr = Field(
        default=SecretStr(""), description="API key, where the embedder asks for one."
    )
    embedder_tls: TlsFiles | None = Field(
        default=None, description="PEM files to connect to the embedder with TLS. Default: no encryption."
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
