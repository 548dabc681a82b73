"""The RPCs of cir.combiner.v1: limits, then the workers, then the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import grpc.aio

from cir.combiner.v1 import combiner_pb2 as pb
from cir.combiner.v1 import combiner_pb2_grpc
from combiner_service.combine_workers import CombineWorkers
from combiner_service.combiner import CombinerInfo
from combiner_service.page_token import InvalidPageSizeError, InvalidPageTokenError, page
from combiner_service.refusals import page_refusal
from combiner_service.registry import Registry
from combiner_service.request_check import check_request
from combiner_service.settings import CombinerSettings
from service_runtime.interceptor import remaining_seconds
from service_runtime.settings import software_version

Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")

# For calls without a deadline.
_LONGEST_SECONDS = 3600.0


class CombinerServicer(combiner_pb2_grpc.CombinerServiceServicer):
    """Serves a registry. Features are combined by `workers`, the folder is listed on `folder`; never on the
    event loop."""

    def __init__(
        self, registry: Registry, settings: CombinerSettings, workers: CombineWorkers, folder: Executor
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._workers = workers
        self._folder = folder

    async def GetCombinerInfo(
        self, request: pb.GetCombinerInfoRequest, context: Context
    ) -> pb.GetCombinerInfoResponse:
        """The limits and the number of usable combiners."""
        infos = await self._off_loop(self._registry.infos)
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
        infos = await self._off_loop(self._registry.infos)
        try:
            shown, token = page(infos, request.page_size, request.page_token)
        except (InvalidPageSizeError, InvalidPageTokenError) as error:
            raise page_refusal(error) from error
        return pb.ListCombinersResponse(combiners=[_message(info) for info in shown], next_page_token=token)

    async def Combine(self, request: pb.CombineRequest, context: Context) -> pb.CombineResponse:
        """Query vectors and text weights for pairs of features."""
        items = check_request(
            request,
            max_batch_items=self._settings.max_batch_items,
            max_dimension=self._settings.max_dimension,
        )
        name = request.combiner or self._settings.default_combiner
        return await self._workers.combine(
            name, items, request, seconds_left=remaining_seconds(context, _LONGEST_SECONDS)
        )

    async def _off_loop(self, job: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._folder, job)


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
