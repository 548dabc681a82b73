"""What a request asks for, checked against the limits before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cir.common.v1 import errors_pb2 as pb
from cir.common.v1 import vectors_pb2
from cir.embedder.v1 import embedder_pb2
from embedder_service.batching.jobs import Priority
from embedder_service.engine import Pixels
from service_runtime.errors import ServiceError

EmbedRequest = embedder_pb2.EmbedImagesRequest | embedder_pb2.EmbedTextsRequest

_PRIORITIES = {embedder_pb2.INTERACTIVE: Priority.INTERACTIVE, embedder_pb2.BULK: Priority.BULK}


@dataclass(frozen=True, slots=True)
class RequestParser:
    """Limits of the service, and the checks of whole requests and of their items.

    Whole requests raise ServiceError; items come back as ServiceError in their place.
    """

    fingerprint: str
    image_size: int
    max_batch_items: int
    max_text_characters: int

    def priority(self, request: EmbedRequest, default: Priority) -> Priority:
        """Check fields that images and texts share; return the class of the work."""
        expected = request.expected_model_fingerprint
        if expected and expected != self.fingerprint:
            raise ServiceError(
                pb.FINGERPRINT_MISMATCH,
                f"this embedder holds model {self.fingerprint}, the caller expects {expected}; "
                "use the embedder of that model, or index again with this one",
                field="expected_model_fingerprint",
                metadata={"expected": expected, "actual": self.fingerprint},
            )
        if request.encoding.dtype not in vectors_pb2.VectorType.values():
            raise ServiceError(
                pb.FIELD_INVALID,
                f"encoding.dtype {request.encoding.dtype} is not known; use FLOAT32 or FLOAT16",
                field="encoding.dtype",
            )
        if request.priority == embedder_pb2.PRIORITY_UNSPECIFIED:
            return default
        if request.priority not in _PRIORITIES:
            raise ServiceError(
                pb.FIELD_INVALID,
                f"priority {request.priority} is not known; use INTERACTIVE or BULK",
                field="priority",
            )
        return _PRIORITIES[request.priority]

    def images(self, images: Sequence[embedder_pb2.ImageInput]) -> list[bytes | Pixels | ServiceError]:
        """Return encoded bytes, or uint8 (size, size, 3) pixels, or the refusal of each item."""
        self._check_count(len(images), "images")
        return [self._image(image) for image in images]

    def texts(self, texts: Sequence[str]) -> list[str | ServiceError]:
        """Return each text, or its refusal."""
        self._check_count(len(texts), "texts")
        return [self._text(text) for text in texts]

    def _check_count(self, items: int, field: str) -> None:
        if items == 0:
            raise ServiceError(pb.FIELD_REQUIRED, f"{field} is empty; send at least one item", field=field)
        if items > self.max_batch_items:
            raise ServiceError(
                pb.TOO_MANY_ITEMS,
                f"{items} items in {field}, the limit is {self.max_batch_items}; send several calls",
                field=field,
            )

    def _image(self, image: embedder_pb2.ImageInput) -> bytes | Pixels | ServiceError:
        source = image.WhichOneof("source")
        if source == "content":
            return image.content
        if source is None:
            return ServiceError(pb.FIELD_REQUIRED, "the picture has no source; set content or tensor")
        size = self.image_size
        tensor = image.tensor  # copied out of the message at each access: once is enough
        if len(tensor) != size * size * 3:
            return ServiceError(
                pb.TENSOR_WRONG_SIZE,
                f"the tensor has {len(tensor)} bytes, this model takes {size} x {size} x 3 = "
                f"{size * size * 3}; preprocess with the model's own image size",
            )
        return np.frombuffer(tensor, np.uint8).reshape(size, size, 3)

    def _text(self, text: str) -> str | ServiceError:
        if len(text) > self.max_text_characters:
            return ServiceError(
                pb.TEXT_TOO_LONG,
                f"the text has {len(text)} characters, the limit is {self.max_text_characters}; shorten it",
            )
        return text
