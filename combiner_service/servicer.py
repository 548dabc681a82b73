"""The CombinerService RPCs, with the checks of their requests and the pages of ListCombiners (AIP-158)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

import grpc.aio

from cir.combiner.v1 import combiner_pb2 as pb
from cir.combiner.v1 import combiner_pb2_grpc
from cir.common.v1 import errors_pb2, vectors_pb2
from combiner_service.checkpoint_directory import PREFIX
from combiner_service.combine_queue import CombineWorkers
from combiner_service.combiner import CombinerInfo
from combiner_service.registry import Registry
from combiner_service.settings import CombinerSettings
from service_runtime.errors import ServiceError
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
        shown, token = cut_page(infos, request.page_size, request.page_token)
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
    prefix = PREFIX.encode()
    if not last.startswith(prefix):
        raise invalid_page_token()
    # The checkpoint is gone since: resume with the first one that would have come after it.
    return sum(1 for name in names if not name.startswith(prefix) or name < last)
