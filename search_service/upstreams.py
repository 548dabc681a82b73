"""The services behind the search service: how they are reached, and the combiner as it is called."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc.aio
import numpy as np
from numpy.typing import NDArray

from cir.channel import TlsFiles, metadata, open_async_channel
from cir.combiner.v1 import combiner_pb2 as pb
from cir.combiner.v1 import combiner_pb2_grpc as rpc
from cir.common.v1 import errors_pb2
from cir.common.v1 import errors_pb2 as errors
from cir.errors import InvalidArgument, from_rpc_error
from cir.vectors import VectorError, pack, unpack
from search_service.settings import SearchSettings
from service_runtime.errors import ServiceError, StartupError
from service_runtime.interceptor import call_metadata
from service_runtime.tls import check_authority, check_pair
from service_runtime.tracing import client_interceptors
from service_runtime.upstream import to_service_error


@dataclass(frozen=True, slots=True)
class UpstreamAccess:
    """`tls` None connects without encryption; `metadata` goes with every call."""

    tls: TlsFiles | None
    metadata: tuple[tuple[str, str], ...] = field(repr=False)

    def open(self, address: str) -> grpc.aio.Channel:
        """A channel to "host:port"."""
        return open_async_channel(address, tls=self.tls, interceptors=client_interceptors())


def load_upstream_access(settings: SearchSettings) -> UpstreamAccess:
    """Read the access to both services from the settings.

    Raises:
        StartupError: half of a pair is set, or files cannot be used.
    """
    ca, certificate, key = settings.upstream_ca, settings.upstream_certificate, settings.upstream_key
    if not settings.upstream_tls and (ca or certificate or key):
        raise StartupError(
            "upstream_ca, upstream_certificate and upstream_key are for TLS; set upstream_tls as well"
        )
    if ca is not None:
        check_authority("upstream_ca", ca)
    if certificate is not None and key is not None:
        check_pair(("upstream_certificate", certificate), ("upstream_key", key))
    elif certificate or key:
        raise StartupError("upstream_certificate and upstream_key go together; set both or neither")
    try:
        sent = metadata(settings.upstream_api_key.get_secret_value())
    except InvalidArgument as error:
        raise StartupError(f"upstream_api_key: {error.message}") from None
    return UpstreamAccess(TlsFiles(ca, certificate, key) if settings.upstream_tls else None, sent)


def check_fingerprint(actual: str, *, expected: str, source: str) -> None:
    """Raise `ServiceError` (FINGERPRINT_MISMATCH) when `source` answered with another model's vectors.

    It was given the expected model, so this finds a neighbour that does not look. Vectors that name no
    model pass.
    """
    if actual and actual != expected:
        raise ServiceError(
            errors.FINGERPRINT_MISMATCH,
            f"{source} answered with vectors of model {actual[:200]}, the catalog's come from model "
            f"{expected}; let it serve the catalog's model, or index again with its own",
            metadata={"expected": expected, "actual": actual},
        )


@dataclass(frozen=True, slots=True, eq=False)
class Combination:
    """Unit query vectors (n, d), and a network's lambda for the first pair where it means something."""

    vectors: NDArray[np.float32]
    network_lambda: float | None


@dataclass(frozen=True, slots=True, eq=False)
class ImageWords:
    """Word embeddings (n, token width) of images, and the sentence that each belongs into with its text."""

    words: NDArray[np.float32]
    template: str


class CombinerClient:
    """Query vectors from a combiner service over one channel."""

    def __init__(
        self, channel: grpc.aio.Channel, address: str, metadata: Sequence[tuple[str, str]] = ()
    ) -> None:
        self._stub: rpc.CombinerServiceAsyncStub = rpc.CombinerServiceStub(channel)
        self._address = address
        self._metadata = tuple(metadata)

    async def usable(self, *, timeout: float) -> list[pb.Combiner]:
        """Return the combiners that can be used.

        Raises:
            ServiceError: COMBINER_UNAVAILABLE when the combiner cannot be reached.
        """
        try:
            answer = await self._stub.ListCombiners(
                pb.ListCombinersRequest(page_size=1000), timeout=timeout, metadata=self._sent()
            )
        except grpc.aio.AioRpcError as error:
            raise self._refusal(error, timeout) from error
        return [combiner for combiner in answer.combiners if not combiner.problem]

    async def combine(
        self,
        images: NDArray[np.float32],
        texts: NDArray[np.float32],
        *,
        combiner: str,
        text_weight: float | None,
        fingerprint: str,
        timeout: float,
    ) -> Combination | ImageWords:
        """Combine rows of raw features, (n, d) each; an inversion gives words for the embedder to read.

        Raises:
            ServiceError: The combiner refuses, cannot be reached, or gave a bad answer.
        """
        request = pb.CombineRequest(
            combiner=combiner,
            image_features=pack(images, fingerprint=fingerprint),
            text_features=pack(texts, fingerprint=fingerprint),
            text_weight=text_weight,
        )
        try:
            answer = await self._stub.Combine(request, timeout=timeout, metadata=self._sent())
        except grpc.aio.AioRpcError as error:
            raise self._refusal(error, timeout) from error
        inverted = answer.HasField("word_embeddings")
        batch = answer.word_embeddings if inverted else answer.query_vectors
        check_fingerprint(
            batch.model_fingerprint,
            expected=fingerprint,
            source=f"the combiner at {self._address}",
        )
        try:
            vectors = unpack(batch, dimension=0 if inverted else images.shape[1])
        except VectorError as error:
            raise self._bad_answer(str(error)) from error
        if len(vectors) != len(images):
            raise self._bad_answer(f"{len(vectors)} vectors for {len(images)} pairs")
        if inverted:
            return ImageWords(vectors, answer.template)
        told = answer.lambdas[0] if answer.lambdas else math.nan
        return Combination(vectors, told if 0 <= told <= 1 else None)

    def _bad_answer(self, what: str) -> ServiceError:
        return ServiceError(
            errors_pb2.COMBINER_UNAVAILABLE, f"the combiner at {self._address} gave a bad answer: {what}"
        )

    def _sent(self) -> tuple[tuple[str, str], ...]:
        """Metadata of every call: this service's own, and the request id of the call being served."""
        return (*self._metadata, *call_metadata())

    def _refusal(self, error: grpc.aio.AioRpcError, timeout: float) -> ServiceError:
        return to_service_error(
            from_rpc_error(error, address=self._address, timeout=timeout),
            service="combiner",
            address=self._address,
            unavailable=errors_pb2.COMBINER_UNAVAILABLE,
            fields={"combiner": "combiner"},
        )
