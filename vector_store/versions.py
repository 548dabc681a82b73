"""Rules of versions that hold on every engine: names, documents, publish history, automatic quantization.

Pure decisions, no I/O. Version ids are `v0001`, `v0002`, ... by age. An engine gives out each number of a
catalog once, whatever becomes of version and catalog, so that an id never comes to mean another version."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cir.fields import FieldType
from vector_store.errors import VersionConflictError
from vector_store.types import IndexOptions, Placement, Quantization, VersionInfo, VersionSpec, VersionState

_VERSION = re.compile(r"v(\d{4}|[1-9]\d{4,17})")

MAX_NUMBER = 10**18 - 1
"""Largest number of a version id; counting to it takes longer than anybody has."""


def is_version_name(name: str) -> bool:
    """Return whether `name` has the form of a version id (and so is safe as part of a path)."""
    return _VERSION.fullmatch(name) is not None


def version_number(name: str) -> int:
    """Return the number of a version id, which grows with each version of a catalog; 0 for other texts."""
    match = _VERSION.fullmatch(name)
    return int(match[1]) if match else 0


def next_version(given: Iterable[str]) -> str:
    """Return the id after the newest that was given out, whether its version is still there or not."""
    return f"v{max(map(version_number, given), default=0) + 1:04d}"


def spec_to_document(spec: VersionSpec) -> dict[str, Any]:
    """Only strings, integers, booleans, lists and mappings of strings: every engine keeps them unchanged.

    The schema and the model facts are lists of pairs, because engines may restrict mapping keys.
    """
    return {
        "dimension": spec.dimension,
        "model_fingerprint": spec.model_fingerprint,
        "schema": [[name, str(kind)] for name, kind in spec.schema.items()],
        "model": [[name, value] for name, value in spec.model.items()],
        "image_folders": list(spec.image_folders),
        "index": {
            "hnsw_m": spec.index.hnsw_m,
            "hnsw_ef_construct": spec.index.hnsw_ef_construct,
            "quantization": str(spec.index.quantization),
            "vectors_on_disk": spec.index.vectors_on_disk,
            "payload_on_disk": spec.index.payload_on_disk,
            "shards": spec.index.placement.shards,
            "replicas": spec.index.placement.replicas,
            "write_consistency": spec.index.placement.write_consistency,
        },
    }


def spec_from_document(document: Mapping[str, Any]) -> VersionSpec:
    """Read what `spec_to_document` wrote.

    Raises:
        KeyError, ValueError: the document is of another kind.
    """
    index = document["index"]
    return VersionSpec(
        dimension=int(document["dimension"]),
        model_fingerprint=str(document["model_fingerprint"]),
        schema={name: FieldType(kind) for name, kind in document["schema"]},
        model={name: str(value) for name, value in document["model"]},
        index=IndexOptions(
            hnsw_m=int(index["hnsw_m"]),
            hnsw_ef_construct=int(index["hnsw_ef_construct"]),
            quantization=Quantization(index["quantization"]),
            vectors_on_disk=bool(index["vectors_on_disk"]),
            # Documents of older versions do not have these.
            payload_on_disk=bool(index.get("payload_on_disk", False)),
            placement=Placement(
                shards=int(index.get("shards", 0)),
                replicas=int(index.get("replicas", 0)),
                write_consistency=int(index.get("write_consistency", 0)),
            ),
        ),
        image_folders=tuple(str(folder) for folder in document.get("image_folders", ())),
    )


def image_length_of(document: Mapping[str, Any]) -> float | None:
    """Read the mean length of a version's features from its document; None where it has none.

    Raises:
        ValueError, TypeError: it is no length.
    """
    length = document.get("image_length")
    if length is None:
        return None
    if not (math.isfinite(length) and length > 0):
        raise ValueError(f"image_length is {length}")
    return float(length)


QUANTIZE_ABOVE_BYTES = 1 << 30
"""Default size of the float32 vectors above which AUTO searches int8 copies and rescores the best with the
full vectors: 1 GiB, 524,288 vectors of 512. Below it memory is no concern and full vectors are exact."""


def wants_int8(spec: VersionSpec, points: int, above_bytes: int) -> bool:
    """Return whether a finished version of `points` vectors is to be compressed."""
    size = 4 * spec.dimension * points
    return spec.index.quantization is Quantization.AUTO and size > above_bytes


@dataclass(frozen=True, slots=True)
class PublishHistory:
    """The published version ('' for none) and the earlier published ones, oldest first."""

    published: str = ""
    earlier: tuple[str, ...] = ()

    def publish(self, version: str) -> PublishHistory:
        """Return the history with `version` as the published one; publishing it again changes nothing."""
        if version == self.published:
            return self
        earlier = tuple(v for v in (*self.earlier, self.published) if v and v != version)
        return PublishHistory(version, earlier)

    def rollback(self) -> PublishHistory:
        """Return the history with the newest earlier version published again and the present one left out.

        Raises:
            LookupError: there is nothing to go back to.
        """
        if not self.earlier:
            raise LookupError("no earlier version")
        return PublishHistory(self.earlier[-1], self.earlier[:-1])

    def state_of(self, version: str, *, complete: bool) -> VersionState:
        """The state of a version, given whether it was built to the end."""
        if version == self.published:
            return VersionState.PUBLISHED
        if version in self.earlier:
            return VersionState.RETIRED
        return VersionState.READY if complete else VersionState.BUILDING

    def forget(self, versions: Sequence[str]) -> PublishHistory:
        """The history without versions that were dropped."""
        return PublishHistory(self.published, tuple(v for v in self.earlier if v not in versions))


def check_rollback(published: VersionInfo | None, before: VersionInfo) -> None:
    """Check that going back to the version before does not lose every item.

    `published` is None where it cannot be read.

    Raises:
        VersionConflictError: the version before has no items, as the first of a catalog created empty.
    """
    if before.points == 0 and (published is None or published.points > 0):
        raise VersionConflictError(
            f"{before.label}, which was published before, has no items, so that nothing would be found; to "
            "have that all the same, publish it by its name: "
            f"cir catalogs publish {before.catalog} {before.version}"
        )


def versions_to_drop(history: PublishHistory, complete: Sequence[str], keep: int) -> list[str]:
    """Versions beyond the `keep` newest, oldest first.

    `complete` are the ids of the versions that are not being built. The published version never counts
    and never goes. What a rollback would return to is kept before anything else, then the newest.
    """
    others = sorted((version for version in complete if version != history.published), key=version_number)
    by_worth = others[::-1]
    if history.earlier and history.earlier[-1] in by_worth:
        by_worth.remove(history.earlier[-1])
        by_worth.insert(0, history.earlier[-1])
    kept = set(by_worth[:keep])
    return [version for version in others if version not in kept]
