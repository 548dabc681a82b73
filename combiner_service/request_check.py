"""What is refused of a Combine request before any work: sizes by the message's own words, names, types."""

from __future__ import annotations

from cir.combiner.v1 import combiner_pb2 as pb
from cir.common.v1 import errors_pb2, vectors_pb2
from combiner_service.combiner import CombinerInfo
from combiner_service.errors import FingerprintMismatchError
from service_runtime.errors import ServiceError


def check_request(request: pb.CombineRequest, *, max_batch_items: int, max_dimension: int) -> int:
    """Refuse what exceeds the limits or cannot be answered. Reads lengths only, never the values.

    Returns how many pairs the request asks for.
    """
    if request.encoding.dtype not in vectors_pb2.VectorType.values():
        raise ServiceError(
            errors_pb2.FIELD_INVALID,
            f"encoding.dtype {request.encoding.dtype} is not known; use FLOAT32 or FLOAT16",
            field="encoding.dtype",
        )
    return max(
        _checked_count(field, batch, max_batch_items, max_dimension)
        for field, batch in (
            ("image_features", request.image_features),
            ("text_features", request.text_features),
        )
    )


def check_fingerprints(request: pb.CombineRequest, info: CombinerInfo) -> str:
    """The fingerprint of the model that all parts agree on; empty where none of them says.

    An empty fingerprint agrees with any: then the dimension alone is checked.
    Raises FingerprintMismatchError.
    """
    image = request.image_features.model_fingerprint
    text = request.text_features.model_fingerprint
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
            f"{given[:200]}; use a combiner of that model, or sum, slerp, image or text",
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
    value_bytes = 2 if batch.dtype == vectors_pb2.FLOAT16 else 4
    count = len(batch.rows) or len(batch.data) // (value_bytes * max(dimension, 1))
    if count > max_batch_items:
        raise ServiceError(
            errors_pb2.TOO_MANY_ITEMS,
            f"{field}: {count} rows; at most {max_batch_items} are taken in one call (max_batch_items), "
            "send several calls",
            field=field,
        )
    return count
