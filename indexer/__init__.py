"""Offline bulk indexing: a folder of pictures or a manifest becomes a published version of a catalog.

Needs neither torch nor, before a Parquet file is opened, pyarrow: the embedder is met over gRPC only.
"""

from indexer.errors import EmbedderFailed, IndexingError, SourceError, TooManyRejects, VersionIncomplete
from indexer.folder_source import FolderSource
from indexer.manifest_source import ManifestSource
from indexer.open_source import open_source
from indexer.options import IndexingOptions
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
    "Progress",
    "SilentProgress",
    "SourceError",
    "TooManyRejects",
    "VersionIncomplete",
    "index",
    "open_source",
    "progress_for",
]
