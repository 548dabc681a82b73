"""The stored form of an item: engine id, unit vector, and a payload with a fixed outer shape.

`{"id": .., "norm": .., "image": .., "data": {user's fields}, "terms": {field: its terms}}`, with
`"online": true` where it was written into a finished version; the user's fields sit one level down, so that
none can collide with ours. Terms are explained in `payload_index`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cir.limits import is_text
from cir.vectors import NoDirectionError, normalize, split_lengths
from vector_store.errors import InvalidQueryError
from vector_store.payload_index import DATA, TERMS, escape_key, terms_of, unescape_key
from vector_store.types import FieldType, Item, Payload, PayloadBatch, PointBatch, VersionSpec, point_id
from vector_store.validation import check_item_id, check_payload, check_payload_size


@dataclass(frozen=True, slots=True)
class StoredPoints:
    """A batch ready for an engine: engine ids, unit vectors float32 (n, d), payload documents."""

    ids: list[str]
    vectors: NDArray[np.float32]
    payloads: list[dict[str, Any]]


def encode_points(batch: PointBatch, spec: VersionSpec, *, online: bool) -> StoredPoints:
    """Check a batch and bring it into its stored form; the last of several equal ids wins.

    `online` marks the items as written into a finished version.

    Raises:
        InvalidQueryError: a wrong dimension, NaN, infinity, a zero vector, an unusable id or a payload value
            that does not fit the schema. The message names the item, and nothing is written.
    """
    for item_id in batch.ids:
        check_item_id(item_id)
    last_rows = sorted({item_id: row for row, item_id in enumerate(batch.ids)}.values())
    vectors, norms = _split_norms(batch, spec.dimension)
    payloads: list[dict[str, Any]] = []
    for row in last_rows:
        item_id = batch.ids[row]
        document = {"id": item_id, "norm": float(norms[row]), "image": batch.images[row]}
        if online:
            document["online"] = True
        payloads.append(document | _data_and_terms(item_id, batch.payloads[row], spec))
        _check_image(item_id, batch.images[row])
    ids = [point_id(batch.ids[row]) for row in last_rows]
    return StoredPoints(ids, vectors[last_rows], payloads)


def encode_payloads(batch: PayloadBatch, spec: VersionSpec) -> dict[str, dict[str, Any]]:
    """Encode the members of stored payloads that a change of payload replaces, by engine id.

    The last of equal ids wins.

    Raises:
        InvalidQueryError: as in `encode_points`.
    """
    documents = {}
    for row, item_id in enumerate(batch.ids):
        check_item_id(item_id)
        document = _data_and_terms(item_id, batch.payloads[row], spec)
        if batch.images is not None:
            _check_image(item_id, batch.images[row])
            document["image"] = batch.images[row]
        documents[point_id(item_id)] = document
    return documents


def decode_item(payload: Mapping[str, Any], vector: Sequence[float] | None) -> Item:
    """The item of a stored payload; `vector` is the unit vector where it was read."""
    norm = float(payload["norm"])
    features = None if vector is None else np.asarray(vector, dtype=np.float32) * np.float32(norm)
    data = payload[DATA]
    if any("%" in key for key in data):
        data = {unescape_key(key): value for key, value in data.items()}
    return Item(payload["id"], data, payload["image"], norm, features, "online" in payload)


def unit_vector(vector: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """Return a query vector scaled to length one, float32 (d,).

    Raises:
        InvalidQueryError: a wrong dimension, NaN, infinity or a zero vector, which has no direction.
    """
    array = np.asarray(vector, dtype=np.float32)
    if array.shape != (dimension,):
        raise InvalidQueryError(
            f"query vector has shape {array.shape}, the catalog's vectors have ({dimension},)", field="vector"
        )
    if not np.isfinite(array).all():
        raise InvalidQueryError("query vector holds NaN or infinity", field="vector")
    try:
        return normalize(array)
    except NoDirectionError as error:
        raise InvalidQueryError("'query': a zero vector has no direction", field="vector") from error


def _data_and_terms(item_id: str, payload: Payload, spec: VersionSpec) -> dict[str, Any]:
    check_payload(payload, spec.schema, item=item_id)
    document: dict[str, Any] = {DATA: {escape_key(name): _plain(value) for name, value in payload.items()}}
    check_payload_size(document[DATA], item=item_id)
    terms = {
        escape_key(name): terms_of(payload.get(name), kind)
        for name, kind in spec.schema.items()
        if kind in (FieldType.TEXT, FieldType.BOOL)
    }
    if terms:
        document[TERMS] = terms
    return document


def _check_image(item_id: str, image: object) -> None:
    if not isinstance(image, str) or not is_text(image):
        raise InvalidQueryError(f"item {item_id!r}: image location is not a text", field="image")


def _split_norms(batch: PointBatch, dimension: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    features = np.asarray(batch.features, dtype=np.float32)
    if features.ndim != 2 or features.shape[1] != dimension:
        raise InvalidQueryError(
            f"features have shape {features.shape}, the catalog takes (n, {dimension})", field="features"
        )
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if bad.size:
        raise InvalidQueryError(
            f"item {batch.ids[bad[0]]!r}: features hold NaN or infinity", field="features"
        )
    units, norms = split_lengths(features)
    zero = np.flatnonzero(norms == 0.0)
    if zero.size:
        raise InvalidQueryError(f"{batch.ids[zero[0]]!r}: a zero vector has no direction", field="features")
    return units, norms


def _plain(value: object) -> Any:
    """Convert mappings and sequences of any kind to the dicts and lists that engines take."""
    if isinstance(value, Mapping):
        return {key: _plain(element) for key, element in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(element) for element in value]
    return value
