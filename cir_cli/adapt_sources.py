"""Items for `cir adapt`, from the store of a catalog or from a manifest. Imports what the extras bring."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cir_cli.embedding_backends import LocalModel, RemoteModel
from cir_cli.errors import Failure
from combiner_training.adapt.columns import AdaptError
from combiner_training.adapt.dataset import CatalogItems, feature_rows
from combiner_training.extract import extract_images
from combiner_training.feature_file import (
    FeatureHeader,
    FeatureKind,
    FeatureWriter,
    paths_of,
    read_table,
)
from combiner_training.progress import Progress
from indexer.errors import IndexingError
from indexer.sources.base import SourceItem
from indexer.sources.source_factory import open_source
from vector_store.errors import StoreError
from vector_store.open_store import open_store
from vector_store.types import VersionInfo, check_catalog_name

_PAGE = 500
Model = LocalModel | RemoteModel


@dataclass(frozen=True, slots=True)
class SourceOfItems:
    """Items with where their images are: files, or locations below the catalog's `folders`.

    `origin` names the catalog's version, or the manifest.
    """

    items: CatalogItems
    origin: str
    images: Mapping[str, Path | str]
    folders: tuple[str, ...] = ()


def is_manifest(source: str) -> bool:
    """Return true for a path, false for what can be a catalog's name."""
    if Path(source).is_file():
        return True
    try:
        check_catalog_name(source)
    except ValueError:
        return True
    return False


def read_catalog(
    catalog: str,
    store_url: str,
    features: Path,
    *,
    api_key: str,
    ca_file: Path | None,
    most: int,
    progress: Progress,
) -> SourceOfItems:
    """Read the published version of a catalog and write its features to the folder `features`.

    Of more than `most` items some are taken, by their ids.

    Raises:
        Failure: The store or the catalog cannot be read.
        AdaptError: No item has features that can be used.
    """
    try:
        return asyncio.run(_read_catalog(catalog, store_url, features, api_key, ca_file, most, progress))
    except (StoreError, ValueError) as error:
        if isinstance(error, AdaptError):
            raise
        raise Failure(str(error)) from error


async def _read_catalog(
    catalog: str,
    store_url: str,
    folder: Path,
    api_key: str,
    ca_file: Path | None,
    most: int,
    progress: Progress,
) -> SourceOfItems:
    names: list[str] = []
    payloads: list[Mapping[str, object]] = []
    rows: list[np.ndarray] = []
    images: dict[str, Path | str] = {}
    left_out: Counter[str] = Counter()
    async with (
        open_store(store_url, api_key=api_key, ca_file=ca_file) as store,
        store.open_frozen_version(catalog) as version,
    ):
        info: VersionInfo = version.info
        total = await version.count()
        progress.start("items", total)
        after, read = "", 0
        while True:
            page, after = await version.scroll(limit=_PAGE, after=after, with_features=True)
            for item in page:
                if total > most and zlib.crc32(item.id.encode()) / 2**32 >= most / total:
                    left_out["not among the sample"] += 1
                    continue
                names.append(item.id)
                payloads.append(item.payload)
                rows.append(np.asarray(item.features, np.float32))
                images[item.id] = item.image
            read += len(page)
            progress.advance(read)
            if not after:
                break
    spec = info.spec
    if not names:
        raise AdaptError(f"the catalog {catalog!r} has no items")
    matrix = np.stack(rows)
    items = _sound(
        CatalogItems(
            catalog, tuple(names), tuple(payloads), matrix, spec.model_fingerprint, dict(spec.model), left_out
        )
    )
    header = FeatureHeader(
        FeatureKind.IMAGES,
        items.names,
        spec.dimension,
        np.dtype(np.float32),
        spec.model_fingerprint,
        items.model,
    )
    path = paths_of(folder)[0]
    # A whole file of an earlier run has other items, or the same.
    path.unlink(missing_ok=True)
    with FeatureWriter(path, header) as writer:
        writer.append(items.features[writer.done :])
        writer.finish()
    return SourceOfItems(items, info.label, images, tuple(spec.image_folders))


def read_manifest(
    manifest: Path, features: Path, model: Model, *, most: int, progress: Progress
) -> SourceOfItems:
    """Read a manifest and embed its images into the folder `features`; what is there is not embedded anew.

    Raises:
        AdaptError: The manifest has no items, or none with an image that can be read.
        Failure: The manifest cannot be read.
    """
    payloads: dict[str, Mapping[str, object]] = {}
    paths: dict[str, Path] = {}
    left_out: Counter[str] = Counter()
    try:
        source = open_source(manifest)
        total = source.survey().total
        for found in source.items():
            if not isinstance(found, SourceItem):
                left_out[f"rejected ({found.reason})"] += 1
            elif not isinstance(found.path, Path):
                left_out["whose image is no file (index the manifest, and adapt the catalog)"] += 1
            elif found.id in payloads:
                left_out["with the id of another"] += 1
            elif total > most and zlib.crc32(found.id.encode()) / 2**32 >= most / total:
                left_out["not among the sample"] += 1
            else:
                payloads[found.id] = found.payload
                paths[found.id] = found.path
    except IndexingError as error:
        raise Failure(str(error)) from error
    if not payloads:
        counts = ", ".join(f"{count:,} {why}" for why, count in left_out.items())
        raise AdaptError(f"{manifest} has no items that can be used: {counts or 'it is empty'}")
    extract_images(features, paths, model, dtype="float32", progress=progress)
    table = read_table(paths_of(features)[0])
    names = tuple(payloads)
    found_rows = table.rows(names)
    matrix = np.where((found_rows >= 0)[:, None], table.take(np.maximum(found_rows, 0)), np.nan)
    identity = model.identity
    items = CatalogItems(
        manifest.stem,
        names,
        tuple(payloads.values()),
        matrix.astype(np.float32),
        identity.fingerprint,
        dict(identity.facts),
        left_out,
    )
    return SourceOfItems(_sound(items), str(manifest), dict(paths))


def _sound(items: CatalogItems) -> CatalogItems:
    """Leave out items whose features cannot be used, and count them.

    Raises:
        AdaptError: None is left.
    """
    sound = feature_rows(items.features)
    bad = int((~sound).sum())
    if bad == len(sound):
        raise AdaptError(
            f"none of {len(sound):,} items has features that can be used; index the catalog again"
        )
    if not bad:
        return items
    kept = np.flatnonzero(sound).tolist()
    return CatalogItems(
        items.catalog,
        tuple(items.names[row] for row in kept),
        tuple(items.payloads[row] for row in kept),
        items.features[sound],
        items.model_fingerprint,
        items.model,
        {**items.left_out, "without usable features (NaN, infinite or zero)": bad},
    )
