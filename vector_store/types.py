"""Catalogs, their versions, and items as they go in and come out: plain data, independent of any engine."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from cir.fields import FieldType, Payload

CATALOG_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class VersionState(StrEnum):
    """Life of a version: BUILDING -> READY -> PUBLISHED -> RETIRED (READY again after a rollback)."""

    BUILDING = "building"
    READY = "ready"
    PUBLISHED = "published"
    RETIRED = "retired"


class Quantization(StrEnum):
    """Compression of vectors for search; AUTO is int8 above the engine's size threshold."""

    AUTO = "auto"
    NONE = "none"
    INT8 = "int8"
    BINARY = "binary"
    PRODUCT = "product"


@dataclass(frozen=True, slots=True)
class Placement:
    """Spread of a version over the nodes of a cluster: counts, 0 leaves one to whatever comes next.

    A version is cut into `shards`, each is kept `replicas` times, and a write is acknowledged when
    `write_consistency` replicas have taken it. An embedded version is one shard, whatever it says.
    """

    shards: int = 0
    replicas: int = 0
    write_consistency: int = 0

    def over(self, other: Placement) -> Placement:
        """Return these counts, with those of `other` where they are 0."""
        return Placement(
            shards=self.shards or other.shards,
            replicas=self.replicas or other.replicas,
            write_consistency=self.write_consistency or other.write_consistency,
        )

    def differences(self, other: Placement) -> str:
        """Describe what `other` has in place of the counts asked for here; '' for no difference."""
        return ", ".join(
            f"{name} {getattr(other, name)}, not {asked}"
            for name, asked in asdict(self).items()
            if asked and getattr(other, name) != asked
        )


NO_PLACEMENT = Placement()
"""Every count is left to the store."""


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """Index and storage of a version. Sizes are counts unless a unit is named.

    Counts of `placement` that are 0 take what the store was opened with.
    """

    hnsw_m: int = 16
    hnsw_ef_construct: int = 100
    quantization: Quantization = Quantization.AUTO
    vectors_on_disk: bool = False
    payload_on_disk: bool = False
    placement: Placement = NO_PLACEMENT


@dataclass(frozen=True, slots=True)
class VersionSpec:
    """Specification of a version, fixed when it is created.

    `dimension` is the length of its vectors, `model_fingerprint` the identity of the model that made
    them, `schema` the payload fields that can be filtered and faceted, `model` free facts about the
    model (architecture, preprocessing, ...) that are kept and shown, never interpreted. `image_folders`
    are the folders that the indexer found images in: what items written later say changes nothing here.
    """

    dimension: int
    model_fingerprint: str
    schema: Mapping[str, FieldType] = field(default_factory=dict)
    model: Mapping[str, str] = field(default_factory=dict)
    index: IndexOptions = IndexOptions()
    image_folders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """A version as it stands. `points` is exact for a version that is not being built.

    `changed_online` says that items were written, changed or deleted after it was finished, `damaged` that it
    was refused because its files are not what they were. `image_length` is the mean length of its raw
    features when it was finished, from a sample; None where it had no items, or is older than this number.
    """

    catalog: str
    version: str
    state: VersionState
    spec: VersionSpec
    points: int
    created: datetime
    changed_online: bool = False
    damaged: bool = False
    image_length: float | None = None

    @property
    def label(self) -> str:
        """Name the version in a message."""
        return version_label(self.catalog, self.version)


@dataclass(frozen=True, slots=True)
class CatalogInfo:
    """A catalog with its published version; None while nothing was published yet."""

    catalog: str
    published: VersionInfo | None


def version_label(catalog: str, version: str) -> str:
    """Name a version in a message: version v0001 of catalog 'shop'."""
    return f"version {version} of catalog {catalog!r}"


def check_catalog_name(name: str) -> None:
    """Raise `ValueError` unless `name` can be a catalog's name on every engine."""
    if not CATALOG_NAME.fullmatch(name):
        raise ValueError(
            f"catalog name {name!r}: use 1 to 63 of a-z, 0-9, '-' and '_', starting with a letter or digit"
        )


# A value of the payload. Moments are RFC 3339 texts in UTC, places {"lat": .., "lon": ..}.

_NAMESPACE = uuid.UUID("5b1c3c1e-0d6f-4a55-9c5a-6d0f6f6a3c42")


def point_id(item_id: str) -> str:
    """Return the engine's id of an item: a UUID that depends only on the item id, the same in every run."""
    return str(uuid.uuid5(_NAMESPACE, item_id))


@dataclass(frozen=True, slots=True)
class PointBatch:
    """Items to write, row i of every member belonging to the same item.

    `features` is float32 (n, d), the raw features of the model. The store keeps the L2-normalised
    vector and the norm. `images` are the items' image locations, empty where unknown. `as_stored` says that
    payloads and locations come from a store and are written as they are, whatever the rules are by now.
    """

    ids: Sequence[str]
    features: NDArray[np.float32]
    payloads: Sequence[Payload]
    images: Sequence[str]
    as_stored: bool = False

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.features), len(self.payloads), len(self.images)}
        if len(lengths) != 1:
            raise ValueError(f"ids, features, payloads and images differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class PayloadBatch:
    """New payloads of items that are stored already, row i of every member belonging to the same item.

    Each replaces the whole payload of its item. `images` replaces the image locations, None keeps them.
    """

    ids: Sequence[str]
    payloads: Sequence[Payload]
    images: Sequence[str] | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.payloads), len(self.ids if self.images is None else self.images)}
        if len(lengths) != 1:
            raise ValueError(f"ids, payloads and images differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Item:
    """A stored item. `features` are raw (vector times norm), float32 (d,), None unless asked for.

    `online` says that it was written into the finished version, not when that was built.
    """

    id: str
    payload: Payload
    image: str
    norm: float
    features: NDArray[np.float32] | None = None
    online: bool = False


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """An item with its cosine similarity to the query, in [-1, 1]."""

    item: Item
    score: float


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value of a payload field and how many items have it."""

    value: str | int | bool
    count: int
