"""Offline bulk indexing: a folder of images or a manifest becomes a published version of a catalog.

Needs neither torch nor, before a Parquet file is opened, pyarrow: the embedder is met over gRPC only.
"""

from indexer.errors import (
    EmbedderFailed,
    IndexingError,
    PartsError,
    SourceError,
    TooManyRejects,
    VersionIncomplete,
)
from indexer.options import IndexingOptions
from indexer.part_run import embed_part, finish
from indexer.partition import Partition
from indexer.progress import Progress, SilentProgress, progress_for
from indexer.report import IndexReport, PartReport
from indexer.run import index
from indexer.sources.folder import FolderSource
from indexer.sources.manifest import ManifestSource
from indexer.sources.source_factory import open_source

__all__ = [
    "EmbedderFailed",
    "FolderSource",
    "IndexReport",
    "IndexingError",
    "IndexingOptions",
    "ManifestSource",
    "PartReport",
    "Partition",
    "PartsError",
    "Progress",
    "SilentProgress",
    "SourceError",
    "TooManyRejects",
    "VersionIncomplete",
    "embed_part",
    "finish",
    "index",
    "open_source",
    "progress_for",
]
