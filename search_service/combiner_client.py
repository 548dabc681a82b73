"""The combiner service, as the search service calls it."""

from __future__ import annotations

from collections.abc import Sequence

import grpc.aio
import numpy as np
from numpy.typing import NDArray

from cir.combiner.v1 import combiner_pb2 as pb
from cir.combiner.v1 import combiner_pb2_grpc as rpc
from cir.common.v1 import errors_pb2
from cir.vectors import VectorError, pack, unpack
from search_service.same_model import check_same_model
from service_runtime.errors import ServiceError
from service_runtime.interceptor import call_metadata
from service_runtime.upstream import to_service_error


class CombinerClient:
    """Query vectors from a combiner service over one channel."""

    def __init__(
        self, channel: grpc.aio.Channel, address: str, metadata: Sequence[tuple[str, str]] = ()
    ) -> None:
        self._stub: rpc.CombinerServiceAsyncStub = rpc.CombinerServiceStub(channel)
        self._address = address
        self._metadata = tuple(metadata)

    async def names(self, *, timeout: float) -> list[str]:
        """Names of the usable combiners. Raises `ServiceError` (COMBINER_UNAVAILABLE)."""
        try:
            answer = await self._stub.ListCombiners(
                pb.ListCombinersRequest(page_size=1000), timeout=timeout, metadata=self._sent()
            )
        except grpc.aio.AioRpcError as error:
            raise self._refusal(error) from error
        return [combiner.name for combiner in answer.combiners if not combiner.problem]

    async def combine(
        self,
        image: NDArray[np.float32],
        text: NDArray[np.float32],
        *,
        combiner: str,
        text_weight: float | None,
        fingerprint: str,
        timeout: float,
    ) -> tuple[NDArray[np.float32], float]:
        """The unit query vector (d,) of raw features (d,), and the weight that the text had."""
        request = pb.CombineRequest(
            combiner=combiner,
            image_features=pack(image[None, :], fingerprint=fingerprint),
            text_features=pack(text[None, :], fingerprint=fingerprint),
            text_weight=text_weight,
        )
        try:
            answer = await self._stub.Combine(request, timeout=timeout, metadata=self._sent())
        except grpc.aio.AioRpcError as error:
            raise self._refusal(error) from error
        check_same_model(
            answer.query_vectors.model_fingerprint,
            expected=fingerprint,
            source=f"the combiner at {self._address}",
        )
        try:
            vectors = unpack(answer.query_vectors, dimension=len(image))
        except VectorError as error:
            raise self._bad_answer(str(error)) from error
        if len(vectors) != 1 or len(answer.text_weights) != 1:
            raise self._bad_answer(f"{len(vectors)} vectors for one pair")
        return vectors[0], answer.text_weights[0]

    def _bad_answer(self, what: str) -> ServiceError:
        return ServiceError(
            errors_pb2.COMBINER_UNAVAILABLE, f"the combiner at {self._address} gave a bad answer: {what}"
        )

    def _sent(self) -> tuple[tuple[str, str], ...]:
        """Metadata of every call: this service's own, and the request id of the call being served."""
        return (*self._metadata, *call_metadata())

    def _refusal(self, error: grpc.aio.AioRpcError) -> ServiceError:
        return to_service_error(
            error, service="combiner", address=self._address, unavailable=errors_pb2.COMBINER_UNAVAILABLE
        )
