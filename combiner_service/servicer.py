"""The CombinerService RPCs, and the pages of ListCombiners (AIP-158)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

import grpc.aio

from cir.combiner.v1 import combiner_pb2 as pb
from cir.combiner.v1 import combiner_pb2_grpc
from combiner_service.checkpoint_directory import is_checkpoint
from combiner_service.combine_queue import CombineWorkers
from combiner_service.combiner import CombinerInfo, Needs
from combiner_service.registry import Registry
from combiner_service.request import parse_request
from combiner_service.settings import CombinerSettings
from service_runtime.interceptor import remaining_seconds
from service_runtime.page_token import check_page_size, decode_token, encode_token, invalid_page_token
from service_runtime.settings import software_version

Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")

# For calls without a deadline.
_LONGEST_SECONDS = 3600.0
# What page tokens of ListCombiners are bound to.
_AFTER = b"after:"


class CombinerServicer(combiner_pb2_grpc.CombinerServiceServicer):
    """Servicer of a registry.

    Features are combined by `workers`, the folder is listed on `folder`; never on the event loop.
    """

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
                max_message_parts=settings.max_message_parts,
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
        shown, token = cut_page(infos, request.page_size, request.page_token)
        return pb.ListCombinersResponse(combiners=[_message(info) for info in shown], next_page_token=token)

    async def Combine(self, request: pb.CombineRequest, context: Context) -> pb.CombineResponse:
        """Query vectors and text weights for pairs of features."""
        settings = self._settings
        call = parse_request(
            request,
            default_combiner=settings.default_combiner,
            max_batch_items=settings.max_batch_items,
            max_dimension=settings.max_dimension,
        )
        return await self._workers.combine(call, seconds_left=remaining_seconds(context, _LONGEST_SECONDS))

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
        needs=_NEEDS[info.needs],
        token_width=info.token_width,
    )


_NEEDS = {Needs.FEATURES: pb.COMPOSER_NEEDS_FEATURES, Needs.TEXT_TOWER: pb.COMPOSER_NEEDS_TEXT_TOWER}


def cut_page(infos: Sequence[CombinerInfo], size: int, token: str) -> tuple[list[CombinerInfo], str]:
    """Return a page of all combiners, and the token of the next one, which is empty on the last.

    A token says by name where the page before ended, so that files may come and go between two pages without
    a combiner being shown twice. In `infos` those without a checkpoint come first, then checkpoints by name.

    Raises:
        ServiceError: OUT_OF_RANGE for a negative size, PAGE_TOKEN_INVALID for a token of no answer of ours.
    """
    size = check_page_size(size)
    start = _position_after(infos, decode_token(token, _AFTER)) if token else 0
    shown = list(infos[start : start + size])
    more = start + size < len(infos)
    return shown, encode_token(_AFTER, shown[-1].name.encode()) if more else ""


def _position_after(infos: Sequence[CombinerInfo], last: bytes) -> int:
    names = [info.name.encode() for info in infos]
    if last in names:
        return names.index(last) + 1
    if not is_checkpoint(last.decode(errors="replace")):
        raise invalid_page_token()
    # The checkpoint is gone since: resume with the first one that would have come after it.
    return sum(1 for name in names if not is_checkpoint(name.decode()) or name < last)
