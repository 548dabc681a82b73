"""Reading refusals in tests."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status


@dataclass(frozen=True)
class Refusal:
    """Code, reason, message and field of a failed call."""

    code: str
    reason: str
    message: str
    field: str
    retry_after: float | None


async def refused(call: Awaitable[Any]) -> Refusal:
    """The refusal that the call must end with."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    error = raised.value
    status = rpc_status.from_call(error)
    info, field, retry_after = error_details_pb2.ErrorInfo(), "", None
    for detail in status.details if status else ():
        bad, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        detail.Unpack(info)
        if detail.Unpack(bad):
            field = bad.field_violations[0].field
        if detail.Unpack(retry):
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    return Refusal(error.code().name, info.reason, error.details() or "", field, retry_after)
