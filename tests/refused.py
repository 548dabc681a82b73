"""Reading refusals in tests."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status


@dataclass(frozen=True)
class Refusal:
    """A failed call: gRPC code, reason, message, field at fault, seconds to wait, further facts."""

    code: grpc.StatusCode
    reason: str
    message: str
    field: str
    retry_after: float | None
    metadata: dict[str, str]


async def refused(call: Awaitable[Any]) -> Refusal:
    """The refusal that a call ends with; the test fails if it succeeds."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    reason, field, retry_after, metadata = "", "", None, {}
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # has what a call has
    for detail in status.details if status else ():
        info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            assert info.domain == "cir"
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(request):
            field = request.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    return Refusal(error.code(), reason, error.details() or "", field, retry_after, metadata)
