"""The image that a catalog's images have in common, measured on a sample and kept for a minute."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np

from search_service.query import Vector
from vector_store.base import CatalogVersion

# Items that are measured; their order follows from a hash of their ids.
_ITEMS = 256
_AT_ONCE = 64
# A version that items are written into changes meanwhile; nobody waits for it to be exact.
_SECONDS = 60.0
_VERSIONS = 256


class TypicalImages:
    """Mean images of versions. For one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[float, Vector | None]] = {}

    async def of(self, version: CatalogVersion) -> Vector | None:
        """Return the raw features (d,) of a version's mean image, of the mean length of its images.

        None where it has no items, or where their directions cancel out.

        Raises:
            StoreError: The store cannot be used.
        """
        key = (version.info.catalog, version.info.version)
        measured, image = self._known.get(key, (-_SECONDS, None))
        if self._clock() - measured >= _SECONDS:
            image = await _measured(version)
            self._known.pop(key, None)
            while len(self._known) >= _VERSIONS:
                del self._known[next(iter(self._known))]
            self._known[key] = (self._clock(), image)
        return image

    async def length(self, version: CatalogVersion) -> float | None:
        """Return the mean length of a version's images: that of its document, else the one measured now.

        Raises:
            StoreError: The store cannot be used.
        """
        if version.info.image_length is not None:
            return version.info.image_length
        image = await self.of(version)
        return None if image is None else float(np.linalg.norm(image))


async def _measured(version: CatalogVersion) -> Vector | None:
    features: list[Vector] = []
    after = ""
    while len(features) < _ITEMS:
        items, after = await version.scroll(limit=_AT_ONCE, after=after, with_features=True)
        features += [item.features for item in items if item.features is not None]
        if not after:
            break
    if not features:
        return None
    return await asyncio.to_thread(_mean_image, features, version.info.image_length)


def _mean_image(features: list[Vector], length: float | None) -> Vector | None:
    matrix = np.stack(features).astype(np.float64)
    lengths = np.linalg.norm(matrix, axis=1)
    mean = matrix.mean(axis=0)
    norm = float(np.linalg.norm(mean))
    if norm < 1e-6 * lengths.mean():
        return None
    image: Vector = (mean * ((length or lengths.mean()) / norm)).astype(np.float32)
    return image
