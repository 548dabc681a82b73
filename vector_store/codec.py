"""The stored form of an item: engine id, unit vector, and a payload with a fixed outer shape.

`{"id": .., "norm": .., "image": .., "data": {user's fields}, "exact": {field: the text of its floats},
"terms": {field: its terms}}`, with `"online": true` where it was written into a finished version; the user's
fields sit one level down, so that none can collide with ours. Terms are explained in `payload_index`, texts
of floats in `exact_floats`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cir.fields import FieldType, Payload
from cir.limits import is_text
from cir.vectors import NoDirectionError, normalize, split_lengths
from vector_store.errors import InvalidQueryError
from vector_store.exact_floats import EXACT, exact_texts, restored
from vector_store.payload_index import DATA, TERMS, escape_key, terms_of, unescape_key
from vector_store.types import Item, PayloadBatch, PointBatch, VersionSpec, point_id
from vector_store.validation import check_item_id, check_location, parse_payload

_LOG = logging.getLogger(__name__)


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
        if batch.as_stored:
            stored = dict(batch.payloads[row])
        else:
            stored = parse_payload(batch.payloads[row], spec.schema, item=item_id)
            check_location(batch.images[row], item=item_id)
        payloads.append(document | _data_and_terms(stored, spec))
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
        stored = parse_payload(batch.payloads[row], spec.schema, item=item_id)
        document = _data_and_terms(stored, spec)
        if batch.images is not None:
            check_location(batch.images[row], item=item_id)
            document["image"] = batch.images[row]
        documents[point_id(item_id)] = document
    return documents


def decode_item(payload: Mapping[str, Any], vector: Sequence[float] | None) -> Item | None:
    """Return the item of a stored payload; `vector` is the unit vector where it was read.

    Returns None, with a remark in the log, for a document that names no item. Of one that is damaged
    otherwise what can be used is returned: no image, an empty payload, a vector of length one.
    """
    item_id, data, image, norm = (payload.get(key) for key in ("id", DATA, "image", "norm"))
    if not isinstance(item_id, str) or not item_id or not is_text(item_id):
        _LOG.warning("a stored document without a usable item id is left out")
        return None
    if not isinstance(norm, (int, float)) or not 0.0 < norm < math.inf:
        norm = 1.0
    features = None if vector is None else np.asarray(vector, dtype=np.float32) * np.float32(norm)
    if not isinstance(data, Mapping):
        data = {}
    data = restored(data, payload.get(EXACT))
    if any("%" in key for key in data):
        data = {unescape_key(key): value for key, value in data.items()}
    where = image if isinstance(image, str) else ""
    return Item(item_id, data, where, float(norm), features, "online" in payload)


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


def _data_and_terms(stored: Payload, spec: VersionSpec) -> dict[str, Any]:
    data = {escape_key(name): value for name, value in stored.items()}
    document: dict[str, Any] = {DATA: data, EXACT: exact_texts(data)}
    terms = {
        escape_key(name): terms_of(stored.get(name), kind)
        for name, kind in spec.schema.items()
        if kind in (FieldType.TEXT, FieldType.BOOL)
    }
    if terms:
        document[TERMS] = terms
    return document


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
