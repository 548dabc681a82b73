"""A folder of features: those of images and those of texts, of one model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from combiner_service.feature_files.extract import paths_of
from combiner_service.feature_files.header import FeatureFileError, Kind
from combiner_service.feature_files.table import FeatureTable, read_table


@dataclass(frozen=True, slots=True)
class FeatureFolder:
    """Both files, opened and checked against each other."""

    images: FeatureTable
    texts: FeatureTable

    @property
    def model_fingerprint(self) -> str:
        """Of the model that made all features."""
        return self.images.header.model_fingerprint

    @property
    def dimension(self) -> int:
        """Values of one feature."""
        return self.images.header.dimension


def open_folder(folder: Path) -> FeatureFolder:
    """Open what `cir features extract` wrote.

    Raises FeatureFileError, also where images and texts are of two models.
    """
    images, texts = (read_table(path) for path in paths_of(folder))
    for table, kind in ((images, Kind.IMAGES), (texts, Kind.TEXTS)):
        if table.header.kind is not kind:
            raise FeatureFileError(f"{table.origin} holds {table.header.kind}; expected {kind}")
    if images.header.model_fingerprint != texts.header.model_fingerprint:
        raise FeatureFileError(
            f"the images of {folder} are of model {images.header.model_fingerprint}, the texts of "
            f"{texts.header.model_fingerprint}; extract them again with one model"
        )
    if images.header.dimension != texts.header.dimension:
        raise FeatureFileError(
            f"the images of {folder} have {images.header.dimension} values, the texts "
            f"{texts.header.dimension}; extract them again with one model"
        )
    return FeatureFolder(images, texts)
