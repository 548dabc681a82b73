"""The kind of source that a path is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cir.fields import FieldType
from indexer.errors import SourceError
from indexer.sources.base import Source
from indexer.sources.folder import FolderSource
from indexer.sources.manifest import ManifestSource
from indexer.sources.tar import TarSource
from service_runtime.web_images import Fetching


def open_source(
    path: Path,
    *,
    root: Path | None = None,
    image_base: str = "",
    schema: Mapping[str, FieldType] | None = None,
    text_fields: tuple[str, ...] = (),
    fetching: Fetching = Fetching(),
) -> Source:
    """A folder as `FolderSource`, a .tar file or a pattern of them as `TarSource`, any other file as
    `ManifestSource`; nothing is read yet.

    `root` and `fetching` are for manifests, `schema` and `text_fields` for manifests and shards. Raises
    `SourceError` for a path that is not there, or for a manifest of an unknown kind.
    """
    if path.is_dir():
        if root or schema or text_fields:
            raise SourceError(f"{path} is a folder; root, schema and text fields are for manifests only")
        return FolderSource(path, image_base=image_base)
    if path.name.lower().endswith((".tar", ".tar.gz", ".tgz")):
        if root:
            raise SourceError(f"{path} is a tar shard; root is for manifests only")
        return TarSource(str(path), image_base=image_base, schema=schema, text_fields=text_fields)
    if not path.exists():
        raise SourceError(f"{path} does not exist; give a folder of images, tar shards, or a manifest")
    return ManifestSource(
        path,
        root=root,
        image_base=image_base,
        schema=schema,
        text_fields=text_fields,
        fetching=fetching,
    )
