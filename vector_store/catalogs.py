"""What a catalog and a version of it are, independent of any engine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

CATALOG_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class FieldType(StrEnum):
    """Type of a payload field; arrays of the type are allowed everywhere."""

    KEYWORD = "keyword"
    INTEGER = "integer"
    FLOAT = "float"
    BOOL = "bool"
    DATETIME = "datetime"
    GEO = "geo"
    TEXT = "text"


class VersionState(StrEnum):
    """Life of a version: BUILDING -> READY -> PUBLISHED -> RETIRED (READY again after a rollback)."""

    BUILDING = "building"
    READY = "ready"
    PUBLISHED = "published"
    RETIRED = "retired"


class Quantization(StrEnum):
    """How vectors are compressed for search; AUTO is int8 above the engine's size threshold."""

    AUTO = "auto"
    NONE = "none"
    INT8 = "int8"
    BINARY = "binary"
    PRODUCT = "product"


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How a version is indexed and kept. Sizes are counts unless a unit is named.

    `shards`, `replicas` and `write_consistency` (replicas that must have taken a write) are for a Qdrant
    cluster; 0 takes what the store was opened with. An embedded version has one shard, whatever they say.
    """

    hnsw_m: int = 16
    hnsw_ef_construct: int = 100
    quantization: Quantization = Quantization.AUTO
    vectors_on_disk: bool = False
    payload_on_disk: bool = False
    shards: int = 0
    replicas: int = 0
    write_consistency: int = 0


@dataclass(frozen=True, slots=True)
class VersionSpec:
    """What is fixed when a version is created.

    `dimension` is the length of its vectors, `model_fingerprint` the identity of the model that made
    them, `schema` the payload fields that can be filtered and faceted, `model` free facts about the
    model (architecture, preprocessing, ...) that are kept and shown, never interpreted.
    """

    dimension: int
    model_fingerprint: str
    schema: Mapping[str, FieldType] = field(default_factory=dict)
    model: Mapping[str, str] = field(default_factory=dict)
    index: IndexOptions = IndexOptions()


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """A version as it stands. `points` is exact for a version that is not being built.

    `changed_online` says that items were written, changed or deleted after it was finished.
    """

    catalog: str
    version: str
    state: VersionState
    spec: VersionSpec
    points: int
    created: datetime
    changed_online: bool = False


@dataclass(frozen=True, slots=True)
class CatalogInfo:
    """A catalog with its published version; None while nothing was published yet."""

    catalog: str
    published: VersionInfo | None


def check_catalog_name(name: str) -> None:
    """Raise `ValueError` unless `name` can be a catalog's name on every engine."""
    if not CATALOG_NAME.fullmatch(name):
        raise ValueError(
            f"catalog name {name!r}: use 1 to 63 of a-z, 0-9, '-' and '_', starting with a letter or digit"
        )
