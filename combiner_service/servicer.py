"""The RPCs of cir.combiner.v1: limits, then one job on a worker thread, then the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from cir.combiner.v1 import combiner_pb2 as pb
from cir.combiner.v1 import combiner_pb2_grpc
from cir.common.v1 import vectors_pb2
from cir.vectors import VectorError, pack, unpack
from combiner_service.combiner import CombinerInfo
from combiner_service.errors import CombinerError
from combiner_service.features import Float32
from combiner_service.page_token import InvalidPageSizeError, InvalidPageTokenError, page
from combiner_service.refusals import page_refusal, refusal, vector_refusal
from combiner_service.registry import Registry
from combiner_service.request_check import check_fingerprints, check_request
from combiner_service.settings import CombinerSettings
from service_runtime.version import software_version

Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")


class CombinerServicer(combiner_pb2_grpc.CombinerServiceServicer):
    """Serves a registry. Files are read and features combined on `workers`, never on the event loop.

    A call that is cancelled or runs out of time while it waits for a worker is dropped before its work.
    """

    def __init__(self, registry: Registry, settings: CombinerSettings, workers: Executor) -> None:
        self._registry = registry
        self._settings = settings
        self._workers = workers

    async def GetCombinerInfo(
        self, request: pb.GetCombinerInfoRequest, context: Context
    ) -> pb.GetCombinerInfoResponse:
        """The limits and the number of usable combiners."""
        infos = await self._on_worker(self._registry.infos)
        settings = self._settings
        return pb.GetCombinerInfoResponse(
            limits=pb.CombinerLimits(
                max_batch_items=settings.max_batch_items,
                max_dimension=settings.max_dimension,
                max_message_bytes=settings.max_message_bytes,
                max_concurrent_calls=settings.max_concurrent_calls,
            ),
            combiners=sum(1 for info in infos if not info.problem),
            default_combiner=settings.default_combiner,
            version=software_version(),
        )

    async def ListCombiners(
        self, request: pb.ListCombinersRequest, context: Context
    ) -> pb.ListCombinersResponse:
        """A page of the combiners, unusable ones with their problem."""
        infos = await self._on_worker(self._registry.infos)
        try:
            shown, token = page(infos, request.page_size, request.page_token)
        except (InvalidPageSizeError, InvalidPageTokenError) as error:
            raise page_refusal(error) from error
        return pb.ListCombinersResponse(combiners=[_message(info) for info in shown], next_page_token=token)

    async def Combine(self, request: pb.CombineRequest, context: Context) -> pb.CombineResponse:
        """Query vectors and text weights for pairs of features."""
        check_request(
            request,
            max_batch_items=self._settings.max_batch_items,
            max_dimension=self._settings.max_dimension,
        )
        return await self._on_worker(lambda: self._combine(request))

    def _combine(self, request: pb.CombineRequest) -> pb.CombineResponse:
        name = request.combiner or self._settings.default_combiner
        try:
            # Before the network is loaded: a refusal should not cost a read of its weights.
            fingerprint = check_fingerprints(request, self._registry.info(name))
            image = _features(request.image_features, "image_features")
            text = _features(request.text_features, "text_features")
            combiner = self._registry.get(name)
            started = time.perf_counter_ns()
            combined = combiner.combine(
                image, text, request.text_weight if request.HasField("text_weight") else None
            )
        except CombinerError as error:
            raise refusal(error) from error
        elapsed = Duration()
        elapsed.FromNanoseconds(time.perf_counter_ns() - started)
        return pb.CombineResponse(
            query_vectors=pack(combined.query_vectors, fingerprint=fingerprint, encoding=request.encoding),
            text_weights=combined.text_weights.tolist(),
            combiner=name,
            elapsed=elapsed,
        )

    async def _on_worker(self, job: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._workers, job)


def _features(batch: vectors_pb2.VectorBatch, field: str) -> Float32:
    try:
        # NaN and infinity are found by the combiner, which names the row.
        return unpack(batch, finite=False)
    except VectorError as error:
        raise vector_refusal(error, field) from error


def _message(info: CombinerInfo) -> pb.Combiner:
    return pb.Combiner(
        name=info.name,
        description=info.description,
        model_fingerprint=info.model_fingerprint,
        dimension=info.dimension,
        takes_text_weight=info.takes_text_weight,
        problem=info.problem,
        metadata=info.metadata,
    )
