"""Requests, parsed once: protobuf messages to typed calls, held to the limits before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cir.common.v1 import errors_pb2 as pb
from cir.common.v1 import vectors_pb2
from cir.embedder.v1 import embedder_pb2
from cir.prompts import Template, TemplateError, parse_template
from cir.vectors import DimensionError, NotFiniteError, VectorError, unpack
from embedder_service.batching.jobs import Priority
from embedder_service.images.preprocess import Pixels
from embedder_service.prompts import Words
from service_runtime.errors import ServiceError

_PRIORITIES = {
    embedder_pb2.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
    embedder_pb2.PRIORITY_BULK: Priority.BULK,
}


@dataclass(frozen=True, slots=True)
class ImagesCall:
    """Images to embed: encoded bytes, or uint8 (size, size, 3) pixels, or the refusal of an item.

    `encoding` says how the caller wants the features written.
    """

    images: list[bytes | Pixels | ServiceError]
    priority: Priority
    encoding: vectors_pb2.VectorEncoding


@dataclass(frozen=True, slots=True)
class TextsCall:
    """Texts to embed, or the refusal of an item; otherwise like `ImagesCall`."""

    texts: list[str | ServiceError]
    priority: Priority
    encoding: vectors_pb2.VectorEncoding


@dataclass(frozen=True, slots=True, eq=False)
class PromptsCall:
    """Sentences to embed: a text and a word embedding, a row of `words`, each; otherwise like `TextsCall`."""

    template: Template
    texts: list[str | ServiceError]
    words: Words
    priority: Priority
    encoding: vectors_pb2.VectorEncoding


@dataclass(frozen=True, slots=True)
class QueriesCall:
    """Images with their texts for a joint encoder, or the refusal of a pair; otherwise like `ImagesCall`."""

    encoder: str
    pairs: list[tuple[bytes | Pixels, str] | ServiceError]
    priority: Priority
    encoding: vectors_pb2.VectorEncoding


@dataclass(frozen=True, slots=True)
class RequestParser:
    """Limits of the service, and the model that it serves.

    Each method raises ServiceError for a request that is refused as a whole; an item that is refused alone
    stands as a ServiceError in its place.
    """

    fingerprint: str
    image_size: int
    max_batch_items: int
    max_text_characters: int
    token_width: int = 0
    joint_encoders: tuple[str, ...] = ()

    def parse_images(self, request: embedder_pb2.EmbedImagesRequest, default: Priority) -> ImagesCall:
        """Return the call; `default` is the priority of a request that names none.

        Raises:
            ServiceError: FINGERPRINT_MISMATCH, FIELD_INVALID, FIELD_REQUIRED, TOO_MANY_ITEMS.
        """
        priority = self._parse_shared_fields(request, default)
        self._check_count(len(request.images), "images")
        images = [self._parse_image(image) for image in request.images]
        return ImagesCall(images, priority, _copy(request.encoding))

    def parse_texts(self, request: embedder_pb2.EmbedTextsRequest, default: Priority) -> TextsCall:
        """Return the call; otherwise like `parse_images`."""
        priority = self._parse_shared_fields(request, default)
        self._check_count(len(request.texts), "texts")
        return TextsCall(self._parse_texts(request.texts), priority, _copy(request.encoding))

    def parse_prompts(self, request: embedder_pb2.EmbedPromptsRequest, default: Priority) -> PromptsCall:
        """Return the call; otherwise like `parse_images`.

        Raises:
            ServiceError: as for `parse_images`, and PROMPTS_NOT_TAKEN, WRONG_DIMENSION, NOT_FINITE.
        """
        priority = self._parse_shared_fields(request, default)
        if not self.token_width:
            raise ServiceError(
                pb.PROMPTS_NOT_TAKEN,
                f"the text tower of model {self.fingerprint} takes no word embeddings; use a combiner that "
                "needs features alone",
            )
        self._check_count(len(request.texts), "texts")
        try:
            template = parse_template(request.template)
        except TemplateError as error:
            raise ServiceError(pb.FIELD_INVALID, str(error), field="template") from error
        return PromptsCall(
            template,
            self._parse_texts(request.texts),
            self._parse_words(request.word_embeddings, len(request.texts)),
            priority,
            _copy(request.encoding),
        )

    def parse_queries(self, request: embedder_pb2.EmbedQueriesRequest, default: Priority) -> QueriesCall:
        """Return the call; otherwise like `parse_images`.

        Raises:
            ServiceError: as for `parse_images`, and COMBINER_NOT_FOUND.
        """
        priority = self._parse_shared_fields(request, default)
        if request.encoder not in self.joint_encoders:
            there = ", ".join(self.joint_encoders) or "none for this model"
            raise ServiceError(
                pb.COMBINER_NOT_FOUND,
                f"no joint encoder {request.encoder[:200]!r}; there are: {there}",
                field="encoder",
            )
        self._check_count(len(request.images), "images")
        if len(request.texts) != len(request.images):
            raise ServiceError(
                pb.FIELD_INVALID,
                f"{len(request.texts)} texts for {len(request.images)} images; send one for each",
                field="texts",
            )
        images = [self._parse_image(image) for image in request.images]
        pairs: list[tuple[bytes | Pixels, str] | ServiceError] = []
        for image, text in zip(images, self._parse_texts(request.texts), strict=True):
            if isinstance(image, ServiceError):
                pairs.append(image)
            else:
                pairs.append(text if isinstance(text, ServiceError) else (image, text))
        return QueriesCall(request.encoder, pairs, priority, _copy(request.encoding))

    def _parse_words(self, batch: vectors_pb2.VectorBatch, count: int) -> Words:
        field = "word_embeddings"
        try:
            words = unpack(batch, dimension=self.token_width)
        except VectorError as error:
            reason = pb.FIELD_INVALID
            if isinstance(error, DimensionError):
                reason = pb.WRONG_DIMENSION
            elif isinstance(error, NotFiniteError):
                reason = pb.NOT_FINITE
            raise ServiceError(reason, f"{field}: {error}", field=field) from error
        if len(words) != count:
            raise ServiceError(
                pb.FIELD_INVALID,
                f"{len(words)} word embeddings for {count} texts; send one for each",
                field=field,
            )
        return words

    def parse_stream_batch(self, request: embedder_pb2.EmbedStreamRequest) -> ImagesCall | TextsCall:
        """Return the call that a batch of a stream stands for, bulk work by default.

        Raises:
            ServiceError: as for `parse_images`, and FIELD_REQUIRED for a batch of neither kind.
        """
        match request.WhichOneof("batch"):
            case "images":
                return self.parse_images(request.images, Priority.BULK)
            case "texts":
                return self.parse_texts(request.texts, Priority.BULK)
            case _:
                raise ServiceError(pb.FIELD_REQUIRED, "the batch is empty; set images or texts")

    def _parse_shared_fields(
        self,
        request: embedder_pb2.EmbedImagesRequest
        | embedder_pb2.EmbedTextsRequest
        | embedder_pb2.EmbedPromptsRequest
        | embedder_pb2.EmbedQueriesRequest,
        default: Priority,
    ) -> Priority:
        """Check the fields that images and texts share; return the class of the work."""
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
                f"encoding.dtype {request.encoding.dtype} is not known; "
                "use VECTOR_TYPE_FLOAT32 or VECTOR_TYPE_FLOAT16",
                field="encoding.dtype",
            )
        if request.priority == embedder_pb2.PRIORITY_UNSPECIFIED:
            return default
        if request.priority not in _PRIORITIES:
            raise ServiceError(
                pb.FIELD_INVALID,
                f"priority {request.priority} is not known; use PRIORITY_INTERACTIVE or PRIORITY_BULK",
                field="priority",
            )
        return _PRIORITIES[request.priority]

    def _check_count(self, items: int, field: str) -> None:
        if items == 0:
            raise ServiceError(pb.FIELD_REQUIRED, f"{field} is empty; send at least one item", field=field)
        if items > self.max_batch_items:
            raise ServiceError(
                pb.TOO_MANY_ITEMS,
                f"{items} items in {field}, the limit is {self.max_batch_items}; send several calls",
                field=field,
            )

    def _parse_image(self, image: embedder_pb2.ImageInput) -> bytes | Pixels | ServiceError:
        source = image.WhichOneof("source")
        if source == "content":
            return image.content
        if source is None:
            return ServiceError(pb.FIELD_REQUIRED, "the image has no source; set content or tensor")
        size = self.image_size
        tensor = image.tensor  # copied out of the message at each access: once is enough
        if len(tensor) != size * size * 3:
            return ServiceError(
                pb.TENSOR_WRONG_SIZE,
                f"the tensor has {len(tensor)} bytes, this model takes {size} x {size} x 3 = "
                f"{size * size * 3}; preprocess with the model's own image size",
            )
        return np.frombuffer(tensor, np.uint8).reshape(size, size, 3)

    def _parse_texts(self, texts: Sequence[str]) -> list[str | ServiceError]:
        limit = self.max_text_characters
        return [
            text
            if len(text) <= limit
            else ServiceError(
                pb.TEXT_TOO_LONG,
                f"the text has {len(text)} characters, the limit is {limit}; shorten it",
            )
            for text in texts
        ]


def _copy(encoding: vectors_pb2.VectorEncoding) -> vectors_pb2.VectorEncoding:
    """Return a copy: a part of a message keeps the whole of it in memory."""
    copied = vectors_pb2.VectorEncoding()
    copied.CopyFrom(encoding)
    return copied
