"""Stand-ins for embedder and combiner that answer over real gRPC, and count what they are asked."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import grpc.aio
import numpy as np
from numpy.typing import NDArray

from cir.combiner.v1 import combiner_pb2, combiner_pb2_grpc
from cir.common.v1 import errors_pb2, model_pb2
from cir.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from cir.limits import DEFAULT_COMBINER
from cir.vectors import pack, unpack
from service_runtime.errors import ServiceError

DIMENSION = 16
FINGERPRINT = "clip-test"
UNREADABLE = b"not an image"
#: Letters of a text that the embedder reads.
CONTEXT = 100


def features_of(content: bytes | str) -> NDArray[np.float32]:
    """Features that depend on the content alone; of length 10, as raw CLIP features roughly are."""
    data = content.encode() if isinstance(content, str) else content
    seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "little")
    vector = np.random.default_rng(seed).normal(size=DIMENSION)
    return (10 * vector / np.linalg.norm(vector)).astype(np.float32)


#: Values of the word embedding that `inversion/fake` gives: the first of the image's features.
TOKEN_WIDTH = 4
TEMPLATE = "a photo of {image} that {text}"


def sentence_features(template: str, text: str, word: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features of a sentence, which depend on all its parts."""
    return features_of(template.encode() + text.encode() + word.astype("<f4").tobytes())


class FakeEmbedder(embedder_pb2_grpc.EmbedderServiceServicer):
    """Embeds by content; `UNREADABLE` fails alone. Texts are cut to `CONTEXT` letters, so it says."""

    def __init__(self) -> None:
        self.images = 0
        self.texts = 0
        self.prompts = 0
        self.fingerprint = FINGERPRINT
        self.refuse: ServiceError | None = None
        #: Whether it looks at the fingerprint that is expected.
        self.looks = True
        #: What embeddings wait for before they are made.
        self.gate: asyncio.Event | None = None
        #: Seconds that each embedding takes.
        self.delay = 0.0
        #: One entry for each call that came to the gate; set when a call was cancelled there.
        self.arrivals: asyncio.Queue[None] = asyncio.Queue()
        self.cancelled = asyncio.Event()
        self.request_ids: list[str] = []

    async def GetEmbedderInfo(self, request: Any, context: Any) -> embedder_pb2.GetEmbedderInfoResponse:
        model = model_pb2.ModelInfo(fingerprint=self.fingerprint, dimension=DIMENSION)
        joint = [embedder_pb2.JointEncoder(name="joint/fake")]
        return embedder_pb2.GetEmbedderInfoResponse(model=model, joint_encoders=joint)

    async def EmbedImages(self, request: Any, context: Any) -> embedder_pb2.EmbedImagesResponse:
        await self._check(request, context)
        self.images += len(request.images)
        errors = [
            errors_pb2.ItemError(
                index=i, code=3, reason=errors_pb2.IMAGE_UNREADABLE, message="the bytes are not an image"
            )
            for i, image in enumerate(request.images)
            if image.content == UNREADABLE
        ]
        rows = np.stack([features_of(image.content) for image in request.images])
        rows[[error.index for error in errors]] = np.nan
        return embedder_pb2.EmbedImagesResponse(
            features=pack(rows, fingerprint=self.fingerprint), errors=errors
        )

    async def EmbedTexts(self, request: Any, context: Any) -> embedder_pb2.EmbedTextsResponse:
        await self._check(request, context)
        self.texts += len(request.texts)
        rows = np.stack([features_of(text) for text in request.texts])
        cuts = [
            embedder_pb2.TextCut(index=index, tokens=len(text), read_tokens=CONTEXT)
            for index, text in enumerate(request.texts)
            if len(text) > CONTEXT
        ]
        return embedder_pb2.EmbedTextsResponse(features=pack(rows, fingerprint=self.fingerprint), cuts=cuts)

    async def EmbedPrompts(self, request: Any, context: Any) -> embedder_pb2.EmbedPromptsResponse:
        """Reads the template, the text and the word; see `sentence_features`."""
        await self._check(request, context)
        self.prompts += len(request.texts)
        words = unpack(request.word_embeddings)
        if words.shape[1] != TOKEN_WIDTH:
            refusal = ServiceError(errors_pb2.WRONG_DIMENSION, "word_embeddings: other values")
            await context.abort_with_status(refusal.status())
        rows = np.stack(
            [
                sentence_features(request.template, text, word)
                for text, word in zip(request.texts, words, strict=True)
            ]
        )
        cuts = [
            embedder_pb2.TextCut(index=index, tokens=len(text) + 1, read_tokens=CONTEXT)
            for index, text in enumerate(request.texts)
            if len(text) + 1 > CONTEXT
        ]
        return embedder_pb2.EmbedPromptsResponse(features=pack(rows, fingerprint=self.fingerprint), cuts=cuts)

    async def EmbedQueries(self, request: Any, context: Any) -> embedder_pb2.EmbedQueriesResponse:
        """Reads image and text together: the features of both, one behind the other."""
        await self._check(request, context)
        pairs = zip(request.images, request.texts, strict=True)
        rows = np.stack([features_of(image.content + text.encode()) for image, text in pairs])
        errors = [
            errors_pb2.ItemError(
                index=index, code=3, reason=errors_pb2.IMAGE_UNREADABLE, message="the bytes are not an image"
            )
            for index, image in enumerate(request.images)
            if image.content == UNREADABLE
        ]
        return embedder_pb2.EmbedQueriesResponse(
            features=pack(rows, fingerprint=self.fingerprint), errors=errors
        )

    async def _check(self, request: Any, context: Any) -> None:
        self.request_ids.append(dict(context.invocation_metadata()).get("x-request-id", ""))
        await self._wait()
        if self.refuse is not None:
            await context.abort_with_status(self.refuse.status())
        if self.looks and request.expected_model_fingerprint not in ("", self.fingerprint):
            refusal = ServiceError(
                errors_pb2.FINGERPRINT_MISMATCH,
                f"expected {request.expected_model_fingerprint}, this is {self.fingerprint}",
            )
            await context.abort_with_status(refusal.status())

    async def _wait(self) -> None:
        await asyncio.sleep(self.delay)
        if self.gate is None:
            return
        self.arrivals.put_nowait(None)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class FakeCombiner(combiner_pb2_grpc.CombinerServiceServicer):
    """Adds raw features and normalises, as the default combiner; `inversion/fake` gives words."""

    def __init__(self) -> None:
        self.calls: list[combiner_pb2.CombineRequest] = []
        self.fingerprint = FINGERPRINT
        self.width = TOKEN_WIDTH
        #: Whether it looks at the fingerprints that it is sent.
        self.looks = True
        #: Combiners that are listed and served besides.
        self.adapted: list[combiner_pb2.Combiner] = []

    async def ListCombiners(self, request: Any, context: Any) -> combiner_pb2.ListCombinersResponse:
        return combiner_pb2.ListCombinersResponse(
            combiners=[
                *self.adapted,
                combiner_pb2.Combiner(name=DEFAULT_COMBINER),
                combiner_pb2.Combiner(name="combiner/bad", problem="cannot be read"),
            ]
        )

    async def Combine(self, request: Any, context: Any) -> combiner_pb2.CombineResponse:
        self.calls.append(request)
        adapted = [each.name for each in self.adapted]
        if request.combiner not in (DEFAULT_COMBINER, "inversion/fake", *adapted):
            refusal = ServiceError(
                errors_pb2.COMBINER_NOT_FOUND, f"no combiner {request.combiner}", field="combiner"
            )
            await context.abort_with_status(refusal.status())
        sent = request.image_features.model_fingerprint
        if self.looks and sent != self.fingerprint:
            refusal = ServiceError(
                errors_pb2.FINGERPRINT_MISMATCH, f"features of {sent}, trained on {self.fingerprint}"
            )
            await context.abort_with_status(refusal.status())
        if request.combiner == "inversion/fake":
            words = unpack(request.image_features)[:, : self.width]
            return combiner_pb2.CombineResponse(
                word_embeddings=pack(words, fingerprint=self.fingerprint),
                template=TEMPLATE,
                combiner=request.combiner,
            )
        mixed = unpack(request.image_features) + unpack(request.text_features)
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        return combiner_pb2.CombineResponse(
            query_vectors=pack(mixed, fingerprint=self.fingerprint),
            text_weights=[0.5] * len(mixed),
            combiner=request.combiner,
        )


async def start(servicer: Any) -> tuple[grpc.aio.Server, str]:
    """Serve a stand-in on a free port; returns the server and "host:port"."""
    # A port of its own, never one that a server which is still stopping listens on too.
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    if isinstance(servicer, FakeEmbedder):
        embedder_pb2_grpc.add_EmbedderServiceServicer_to_server(servicer, server)
    else:
        combiner_pb2_grpc.add_CombinerServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"
