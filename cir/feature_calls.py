"""Calls of the embedder and the combiner, as data: what computes with features, beside the search service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cir.combiner.v1 import combiner_pb2
from cir.common.v1.vectors_pb2 import VectorBatch
from cir.embedder.v1 import embedder_pb2
from cir.errors import InvalidArgument
from cir.image_source import ImageSource, encode_image
from cir.models import ItemError, ModelInfo, read_item_error
from cir.payload import texts as listed
from cir.requests import Call, Page
from cir.vectors import Features, rows_of, unpack

_EMBEDDER = "/cir.embedder.v1.EmbedderService"
_COMBINER = "/cir.combiner.v1.CombinerService"
_PRIORITIES = {"interactive": embedder_pb2.PRIORITY_INTERACTIVE, "bulk": embedder_pb2.PRIORITY_BULK}


@dataclass(frozen=True, slots=True)
class TextCut:
    """A text that the model read only the beginning of: its place, its length in tokens, and those read."""

    index: int
    tokens: int
    read_tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Raw features of several inputs, float32 (n, d), in their order.

    An input that cannot be embedded fails alone: it is among `errors`, and its row is NaN. `cuts` are the
    texts that are longer than what the model reads. `embedded[i]` are the features of one input, as
    searches and items take them.
    """

    features: NDArray[np.float32]
    model_fingerprint: str
    errors: tuple[ItemError, ...] = ()
    cuts: tuple[TextCut, ...] = ()

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> Features:
        """Return the features of one input.

        Raises:
            InvalidArgument: it could not be embedded.
            IndexError: there is no such input.
        """
        row = self.features[index]
        place = index % len(self.features)
        for error in self.errors:
            if error.index == place:
                raise InvalidArgument(f"input {place}: {error.message}", reason=error.reason)
        return Features(row, self.model_fingerprint)

    @classmethod
    def read(cls, response: Any) -> Embedded:
        """Read the message."""
        return cls(
            features=unpack(response.features, finite=False),
            model_fingerprint=response.features.model_fingerprint,
            errors=tuple(read_item_error(error) for error in response.errors),
            cuts=tuple(
                TextCut(cut.index, cut.tokens, cut.read_tokens) for cut in getattr(response, "cuts", ())
            ),
        )


@dataclass(frozen=True, slots=True)
class EmbedderInfo:
    """The embedder's model, its limits by name as in `cir.embedder.v1.EmbedderLimits`, and its version.

    `joint_encoders` describes the encoders that read image and text together, by name.
    """

    model: ModelInfo
    limits: Mapping[str, int | float]
    version: str
    joint_encoders: Mapping[str, str]

    @classmethod
    def read(cls, message: embedder_pb2.GetEmbedderInfoResponse) -> EmbedderInfo:
        """Read the message; times of the limits are seconds."""
        limits: dict[str, int | float] = {}
        for field in embedder_pb2.EmbedderLimits.DESCRIPTOR.fields:
            value = getattr(message.limits, field.name)
            limits[field.name] = value if isinstance(value, int) else value.ToNanoseconds() / 1e9
        encoders = {encoder.name: encoder.description for encoder in message.joint_encoders}
        return cls(ModelInfo.read(message.model), limits, message.version, encoders)


@dataclass(frozen=True, slots=True)
class Combiner:
    """A combiner of the service; `problem` says why it cannot be used, and is empty where it can.

    An empty `model_fingerprint` and a `dimension` of 0 mean any model. With `needs_text_tower` it answers
    with words for `embed_prompts`, of `token_width` values. `metadata` is what its checkpoint says of
    itself.
    """

    name: str
    description: str
    model_fingerprint: str
    dimension: int
    takes_text_weight: bool
    problem: str
    needs_text_tower: bool
    token_width: int
    metadata: Mapping[str, str]

    @classmethod
    def read(cls, message: combiner_pb2.Combiner) -> Combiner:
        """Read the message."""
        return cls(
            name=message.name,
            description=message.description,
            model_fingerprint=message.model_fingerprint,
            dimension=message.dimension,
            takes_text_weight=message.takes_text_weight,
            problem=message.problem,
            needs_text_tower=message.needs == combiner_pb2.COMPOSER_NEEDS_TEXT_TOWER,
            token_width=message.token_width,
            metadata=dict(message.metadata),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Combined:
    """Queries that a combiner made of pairs of features: L2-normalised, float32 (n, d).

    `text_weights` are those that the call gave, else the combiner's own; `lambdas` a network's, as shares
    of text against image, NaN where they are none. A combiner that needs the text tower answers with
    `word_embeddings`, one row a pair, and a `template` for `embed_prompts`; `queries` is None then.
    `combined[i]` is one query, as searches take it for features.
    """

    queries: NDArray[np.float32] | None
    model_fingerprint: str
    combiner: str
    text_weights: tuple[float, ...] = ()
    lambdas: tuple[float, ...] = ()
    word_embeddings: NDArray[np.float32] | None = None
    template: str = ""

    def __getitem__(self, index: int) -> Features:
        """Return one query.

        Raises:
            InvalidArgument: the combiner answered with words.
            IndexError: there is no such pair.
        """
        if self.queries is None:
            raise InvalidArgument(f"{self.combiner} answers with words; make the query by embed_prompts")
        return Features(self.queries[index], self.model_fingerprint)

    @classmethod
    def read(cls, message: combiner_pb2.CombineResponse) -> Combined:
        """Read the message."""
        in_words = message.HasField("word_embeddings")
        vectors = message.word_embeddings if in_words else message.query_vectors
        rows = unpack(vectors)
        return cls(
            queries=None if in_words else rows,
            model_fingerprint=vectors.model_fingerprint,
            combiner=message.combiner,
            text_weights=tuple(message.text_weights),
            lambdas=tuple(message.lambdas),
            word_embeddings=rows if in_words else None,
            template=message.template,
        )


def embedder_info(*, timeout: float | None = None) -> Call[EmbedderInfo]:
    """The embedder's model and the limits that it enforces."""
    request, response = embedder_pb2.GetEmbedderInfoRequest(), embedder_pb2.GetEmbedderInfoResponse
    return Call(f"{_EMBEDDER}/GetEmbedderInfo", request, response, EmbedderInfo.read, timeout)


def embed_images(
    images: Sequence[ImageSource],
    *,
    model_fingerprint: str = "",
    priority: str = "interactive",
    timeout: float | None = None,
) -> Call[Embedded]:
    """Embed images (paths, bytes, file objects, PIL images, arrays) to raw features.

    With `model_fingerprint` the call is refused unless the embedder holds this model. `priority` "bulk" waits
    behind everybody's interactive calls. An image that cannot be read here is an error; one that the embedder
    cannot read fails alone.

    Raises:
        InvalidArgument: more images than the embedder's `max_batch_items`, or one that cannot be sent.
        FailedPrecondition: the embedder holds another model.
        Overloaded: the embedder has more to do than it can.
    """
    request = embedder_pb2.EmbedImagesRequest(images=_inputs(images))
    return _embedding(
        "EmbedImages", request, embedder_pb2.EmbedImagesResponse, model_fingerprint, priority, timeout
    )


def embed_texts(
    texts: Sequence[str],
    *,
    model_fingerprint: str = "",
    priority: str = "interactive",
    timeout: float | None = None,
) -> Call[Embedded]:
    """Embed texts to raw features. Arguments and errors are those of `embed_images`."""
    request = embedder_pb2.EmbedTextsRequest(texts=listed(texts, field="texts"))
    return _embedding(
        "EmbedTexts", request, embedder_pb2.EmbedTextsResponse, model_fingerprint, priority, timeout
    )


def embed_prompts(
    template: str,
    texts: Sequence[str],
    word_embeddings: ArrayLike,
    *,
    model_fingerprint: str = "",
    priority: str = "interactive",
    timeout: float | None = None,
) -> Call[Embedded]:
    """Embed sentences in which a word stands for an image: `template` and `word_embeddings` of a `Combined`.

    The rest is that of `embed_images`.
    """
    request = embedder_pb2.EmbedPromptsRequest(
        template=template,
        texts=listed(texts, field="texts"),
        word_embeddings=rows_of(word_embeddings, field="word_embeddings"),
    )
    return _embedding(
        "EmbedPrompts", request, embedder_pb2.EmbedPromptsResponse, model_fingerprint, priority, timeout
    )


def embed_queries(
    encoder: str,
    images: Sequence[ImageSource],
    texts: Sequence[str],
    *,
    model_fingerprint: str = "",
    priority: str = "interactive",
    timeout: float | None = None,
) -> Call[Embedded]:
    """Embed pairs of image and text by a joint encoder of `embedder_info`; the rest as in `embed_images`."""
    request = embedder_pb2.EmbedQueriesRequest(
        encoder=encoder, images=_inputs(images), texts=listed(texts, field="texts")
    )
    return _embedding(
        "EmbedQueries", request, embedder_pb2.EmbedQueriesResponse, model_fingerprint, priority, timeout
    )


def list_combiners(
    *, page_size: int = 0, page_token: str = "", timeout: float | None = None
) -> Call[Page[Combiner]]:
    """A page of the combiners, by name, with those that cannot be used; `page_size` 0: the server chooses."""

    def read(response: combiner_pb2.ListCombinersResponse) -> Page[Combiner]:
        return Page([Combiner.read(combiner) for combiner in response.combiners], response.next_page_token)

    request = combiner_pb2.ListCombinersRequest(page_size=page_size, page_token=page_token)
    return Call(f"{_COMBINER}/ListCombiners", request, combiner_pb2.ListCombinersResponse, read, timeout)


def combine(
    image_features: Embedded | Features | ArrayLike,
    text_features: Embedded | Features | ArrayLike,
    *,
    combiner: str = "",
    text_weight: float | None = None,
    timeout: float | None = None,
) -> Call[Combined]:
    """Combine raw features of images and texts, (n, d) each, pair by pair to queries.

    `combiner` empty is the service's default. `text_weight` moves the queries between image (0) and text (1).

    Raises:
        InvalidArgument: features of other shapes, or the combiner takes no such weight.
        NotFound: there is no such combiner.
        FailedPrecondition: the features are of another model, or the combiner cannot be used.
    """
    request = combiner_pb2.CombineRequest(
        combiner=combiner,
        image_features=_rows(image_features, "image_features"),
        text_features=_rows(text_features, "text_features"),
        text_weight=text_weight,
    )
    return Call(f"{_COMBINER}/Combine", request, combiner_pb2.CombineResponse, Combined.read, timeout)


def _rows(given: Embedded | Features | ArrayLike, field: str) -> VectorBatch:
    if isinstance(given, Embedded):
        for error in given.errors:
            raise InvalidArgument(
                f"{field} {error.index} failed: {error.message}", reason=error.reason, field=field
            )
        return rows_of(given.features, field=field, fingerprint=given.model_fingerprint)
    return rows_of(given, field=field, fingerprint=getattr(given, "model_fingerprint", ""))


def _inputs(images: Sequence[ImageSource]) -> list[embedder_pb2.ImageInput]:
    if isinstance(images, (str, bytes)):
        raise InvalidArgument("images is one image; give a list", reason="FIELD_INVALID", field="images")
    return [embedder_pb2.ImageInput(content=encode_image(image)) for image in images]


def _embedding(
    method: str, request: Any, response: Any, fingerprint: str, priority: str, timeout: float | None
) -> Call[Embedded]:
    if priority not in _PRIORITIES:
        raise InvalidArgument(
            f"priority is {priority!r}; it is interactive or bulk", reason="FIELD_INVALID", field="priority"
        )
    request.priority, request.expected_model_fingerprint = _PRIORITIES[priority], fingerprint
    return Call(f"{_EMBEDDER}/{method}", request, response, Embedded.read, timeout)
