"""Refusals over HTTP: `google.rpc.Status` as JSON, with the HTTP code that its gRPC code means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
from google.protobuf import json_format
from google.protobuf.message import DecodeError

# Its messages are written out of the details.
from google.rpc import error_details_pb2, status_pb2
from starlette.responses import JSONResponse

from cir.common.v1 import errors_pb2 as pb
from service_runtime.errors import DOMAIN, ServiceError

_DETAILS = "grpc-status-details-bin"
_PREFIX = "type.googleapis.com/google.rpc."
# As google/rpc/code.proto says of each.
HTTP: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}


class RefusedError(Exception):
    """A request that is answered with a refusal."""

    def __init__(self, response: JSONResponse) -> None:
        super().__init__()
        self.response = response


def refusal(
    code: grpc.StatusCode,
    message: str,
    *,
    field: str = "",
    status: int = 0,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return a refusal of this process's own: of what the services never saw."""
    details: list[dict[str, Any]] = [
        {"@type": f"{_PREFIX}ErrorInfo", "reason": "FIELD_INVALID", "domain": DOMAIN}
    ]
    if field:
        violation = {"field": field, "description": message}
        details.append({"@type": f"{_PREFIX}BadRequest", "fieldViolations": [violation]})
    return _answer(
        code, message, details if code is grpc.StatusCode.INVALID_ARGUMENT else [], status, headers or {}
    )


def refusal_of(status: status_pb2.Status, http: int = 0) -> JSONResponse:
    """Return a status as an answer; with `Retry-After` where it says when to come again."""
    headers = {}
    for one in status.details:
        retry = error_details_pb2.RetryInfo()
        if one.Unpack(retry):
            headers["Retry-After"] = str(max(1, math.ceil(retry.retry_delay.ToTimedelta().total_seconds())))
    details = [json_format.MessageToDict(one) for one in status.details]
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    return _answer(code, status.message, details, http, headers)


def status_of(error: grpc.aio.AioRpcError | ServiceError) -> status_pb2.Status:
    """Return why a call failed: what the service says, or what is known here where it says nothing."""
    if isinstance(error, ServiceError):
        return _in_metadata(error.status().trailing_metadata) or status_pb2.Status()
    stated = _in_metadata(error.trailing_metadata())
    if stated is not None:
        return stated
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        # gRPC's own text has addresses of this network.
        return status_of(ServiceError(pb.NOT_READY, "the service cannot be reached", retry_after=1.0))
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return status_of(ServiceError(pb.DEADLINE, "the service did not answer in the time given"))
    return status_pb2.Status(code=error.code().value[0], message=error.details() or error.code().name)


def _in_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> status_pb2.Status | None:
    for key, value in metadata or ():
        if key == _DETAILS and isinstance(value, bytes):
            with suppress(DecodeError):
                return status_pb2.Status.FromString(value)
    return None


def _answer(
    code: grpc.StatusCode,
    message: str,
    details: list[dict[str, Any]],
    status: int,
    headers: Mapping[str, str],
) -> JSONResponse:
    content = {"code": code.value[0], "message": message, "details": details}
    if code is grpc.StatusCode.UNAUTHENTICATED:
        headers = {**headers, "WWW-Authenticate": "Bearer"}
    return JSONResponse(content, status or HTTP.get(code, 500), dict(headers))
