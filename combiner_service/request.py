"""Combine requests, parsed once at the door: behind it a `CombineCall` travels. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cir.combiner.v1 import combiner_pb2 as pb
from cir.common.v1 import errors_pb2, vectors_pb2
from combiner_service.combiner import CombinerInfo
from combiner_service.errors import FingerprintMismatchError
from service_runtime.errors import ServiceError


@dataclass(frozen=True, slots=True, eq=False)
class CombineCall:
    """One call for the combiner `name`: `items` pairs of features, within the limits of the service.

    The features stay as they were sent until a worker needs them: unpacking is work, and is not done on the
    event loop. A `text_weight` of None lets the combiner decide; `encoding` is that of the query vectors.
    """

    name: str
    items: int
    image_features: vectors_pb2.VectorBatch
    text_features: vectors_pb2.VectorBatch
    text_weight: float | None
    encoding: vectors_pb2.VectorEncoding


def parse_request(
    request: pb.CombineRequest, *, default_combiner: str, max_batch_items: int, max_dimension: int
) -> CombineCall:
    """Parse a request. Reads the lengths of its vectors only, never their values.

    Raises:
        ServiceError: A limit is exceeded, or a field is missing or unknown.
    """
    if request.encoding.dtype not in vectors_pb2.VectorType.values():
        raise ServiceError(
            errors_pb2.FIELD_INVALID,
            f"encoding.dtype {request.encoding.dtype} is not known; "
            "use VECTOR_TYPE_FLOAT32 or VECTOR_TYPE_FLOAT16",
            field="encoding.dtype",
        )
    items = max(
        _checked_count(field, batch, max_batch_items, max_dimension)
        for field, batch in (
            ("image_features", request.image_features),
            ("text_features", request.text_features),
        )
    )
    return CombineCall(
        name=request.combiner or default_combiner,
        items=items,
        image_features=request.image_features,
        text_features=request.text_features,
        text_weight=request.text_weight if request.HasField("text_weight") else None,
        encoding=request.encoding,
    )


def check_fingerprints(call: CombineCall, info: CombinerInfo) -> str:
    """Return the fingerprint of the model that all parts agree on; empty where none of them says.

    An empty fingerprint agrees with any: then the dimension alone is checked.

    Raises:
        FingerprintMismatchError: Two parts name different models.
    """
    image = call.image_features.model_fingerprint
    text = call.text_features.model_fingerprint
    if image and text and image != text:
        raise FingerprintMismatchError(
            f"the image features come from model {image[:200]}, the text features from model {text[:200]}; "
            "embed both with one model",
            field="text_features.model_fingerprint",
        )
    given = image or text
    if given and info.model_fingerprint and given != info.model_fingerprint:
        raise FingerprintMismatchError(
            f"{info.name} was trained on features of model {info.model_fingerprint}, these come from model "
            f"{given[:200]}; use a combiner of that model, or one that takes "
            "features of any model (see ListCombiners)",
            field=("image_features" if image else "text_features") + ".model_fingerprint",
        )
    return info.model_fingerprint or given


def _checked_count(
    field: str, batch: vectors_pb2.VectorBatch, max_batch_items: int, max_dimension: int
) -> int:
    if not batch.data and not batch.rows:
        raise ServiceError(
            errors_pb2.FIELD_REQUIRED, f"{field} is empty; send one row for each pair", field=field
        )
    dimension = batch.dimension or (len(batch.rows[0].values) if batch.rows else 0)
    if dimension > max_dimension:
        raise ServiceError(
            errors_pb2.WRONG_DIMENSION,
            f"{field}: vectors of {dimension} values; at most {max_dimension} are taken (max_dimension)",
            field=field,
        )
    value_bytes = 2 if batch.dtype == vectors_pb2.VECTOR_TYPE_FLOAT16 else 4
    count = len(batch.rows) or len(batch.data) // (value_bytes * max(dimension, 1))
    if count > max_batch_items:
        raise ServiceError(
            errors_pb2.TOO_MANY_ITEMS,
            f"{field}: {count} rows; at most {max_batch_items} are taken in one call (max_batch_items), "
            "send several calls",
            field=field,
        )
    return count
