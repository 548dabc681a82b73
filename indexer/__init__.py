"""Offline bulk indexing: a folder of pictures or a manifest becomes a published version of a catalog.

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
from indexer.finish import finish
from indexer.folder_source import FolderSource
from indexer.manifest_source import ManifestSource
from indexer.open_source import open_source
from indexer.options import IndexingOptions
from indexer.part_report import PartReport
from indexer.part_run import embed_part
from indexer.partition import Partition
from indexer.progress import Progress, SilentProgress, progress_for
from indexer.report import IndexReport
from indexer.run import index

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
