"""Options of a run: names, defaults, bounds and help texts in one typed place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cir.channel import TlsFiles
from service_runtime.options import check_options, option
from vector_store.types import IndexOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexingOptions:
    """Options of a run, from which the command line makes its own.

    Without `rejects_path` and `ledger_path` these files are next to the folder or manifest.

    Raises:
        ValueError: A number is out of its bounds.
    """

    columns: tuple[str, ...] = option(
        (), help="Column of the manifest, or field of the shards, to take as payload; default: all."
    )
    sync: bool = option(False, help="Delete items that the source does not have; otherwise they stay.")
    max_delete_share: float = option(0.3, min=0, max=1, help="`sync` deletes no larger share than this.")
    allow_delete: bool = option(False, help="Let `sync` delete any share, even everything.")
    checksum: bool = option(False, help="Read every image; do not trust size and time of change.")
    always_publish: bool = option(False, help="Publish a new version even if nothing has changed.")
    dry_run: bool = option(False, help="Only say what would change; write nothing.")
    near_duplicates_path: Path | None = option(
        None, help="List pairs of items that look alike, as JSON Lines."
    )
    near_duplicates_cosine: float = option(0.97, min=0.01, max=1, help="Alike from this cosine on.")
    ledger_path: Path | None = option(
        None, help="What remembers the state of the catalog between runs, one for each catalog and store."
    )
    rebuild_ledger: bool = option(False, help="Make the ledger anew from the published version.")
    rejects_path: Path | None = option(
        None,
        help="Where rejected items are listed, as JSON Lines: a file, or a folder for one named after source "
        "and catalog; default: beside the folder or manifest.",
    )
    max_reject_share: float = option(0.5, min=0, max=1, help="Publish nothing above this share of rejects.")
    keep_versions: int = option(3, min=0, help="Versions kept beside the published one.")
    batch_items: int = option(
        32, min=1, help="Images in one call to the embedder, at most; its own limit is kept as well."
    )
    batch_bytes: int = option(
        16 * 1024 * 1024,
        min=1,
        help="Bytes of images in one call to the embedder; a larger image goes alone.",
    )
    calls_in_flight: int = option(
        4,
        min=1,
        max=256,
        help="Calls to the embedder at the same time, which is also the most batches that are encoded again "
        "after a crash.",
    )
    read_threads: int = option(4, min=1, max=256, help="Images read from disk at the same time.")
    write_items: int = option(256, min=1, help="Items written to the store at a time.")
    call_timeout_seconds: float = option(
        120.0, above=0, help="Seconds that one call to the embedder may take."
    )
    connect_seconds: float = option(
        10.0, min=0, help="Seconds to wait for the embedder to answer at the start."
    )
    retry_seconds: float = option(
        120.0, min=0, help="Seconds that a batch is tried again while embedder or store is away or full."
    )
    verify_items: int = option(
        8, min=0, help="Items read back and searched for in the finished version before it is published."
    )
    keep_features: bool = option(
        False,
        help="Keep features in the ledger as well: for stores whose published version may be open in another "
        "process, such as edge://.",
    )
    vector_index: IndexOptions = option(IndexOptions(), help="How the vector index of the version is built.")
    embedder_api_key: str = option("", help="API key, where the embedder asks for one.", repr=False)
    embedder_tls: TlsFiles | None = option(
        None, help="PEM files to connect to the embedder with TLS; default: no encryption."
    )

    def __post_init__(self) -> None:
        check_options(self)
