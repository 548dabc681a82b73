"""Time left of a call, and what of it a downstream call may use."""

from __future__ import annotations

from typing import Any

import grpc.aio

from cir.common.v1 import errors_pb2 as pb
from service_runtime.errors import ServiceError

# A call without a deadline reports a remaining time of this order (about 9e18 s); none lasts a day.
_FOREVER = 86_400.0
MARGIN = 0.02


def remaining(context: grpc.aio.ServicerContext[Any, Any], default: float) -> float:
    """Seconds left of the call; `default` where the caller set no deadline."""
    left = context.time_remaining()
    return default if left is None or left > _FOREVER else min(left, default)


def downstream(context: grpc.aio.ServicerContext[Any, Any], default: float) -> float:
    """Timeout for a call to another service: what is left, less a margin for our own answer.

    Raises `ServiceError` (DEADLINE) when nothing is left.
    """
    left = remaining(context, default) - MARGIN
    if left <= 0:
        raise ServiceError(pb.DEADLINE, "the call's time ran out; send it with a longer deadline")
    return left
