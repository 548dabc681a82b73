"""Refusals over HTTP: `google.rpc.Status` as JSON, with the HTTP code that its gRPC code means."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
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
from service_runtime.logging import get_logger

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
# Those of this process's own refusals, by their code.
_REASONS: Mapping[grpc.StatusCode, str] = {
    grpc.StatusCode.INVALID_ARGUMENT: "FIELD_INVALID",
    grpc.StatusCode.UNIMPLEMENTED: "NOT_SERVED",
    grpc.StatusCode.UNAUTHENTICATED: "KEY_MISSING",
    grpc.StatusCode.DEADLINE_EXCEEDED: "DEADLINE",
}
_WARN_SECONDS = 60.0


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
    details: list[dict[str, Any]] = []
    if code in _REASONS:
        details.append({"@type": f"{_PREFIX}ErrorInfo", "reason": _REASONS[code], "domain": DOMAIN})
    if field:
        violation = {"field": field, "description": message}
        details.append({"@type": f"{_PREFIX}BadRequest", "fieldViolations": [violation]})
    return _answer(code, message, details, status, headers or {})


def refusal_of(
    status: status_pb2.Status, http: int = 0, *, spelled: Callable[[str], str] = str
) -> JSONResponse:
    """Return a status as an answer; with `Retry-After` where it says when to come again.

    `spelled` gives the path of a field in the JSON that was sent for its path in the contract.
    """
    headers = {}
    details = []
    for one in status.details:
        detail = json_format.MessageToDict(one)
        retry = error_details_pb2.RetryInfo()
        if one.Unpack(retry):
            headers["Retry-After"] = str(max(1, math.ceil(retry.retry_delay.ToTimedelta().total_seconds())))
        if one.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            for violation in detail.get("fieldViolations", ()):
                violation["field"] = spelled(violation.get("field", ""))
        details.append(detail)
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    return _answer(code, status.message, details, http, headers)


class Service:
    """A service behind this process, by the name that callers read and the address that the log has."""

    def __init__(self, name: str, address: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = f"the {name} service"
        self._address = address
        self._clock = clock
        self._warned = -math.inf

    def status_of(self, error: grpc.aio.AioRpcError | ServiceError) -> status_pb2.Status:
        """Return why a call failed; where nothing answers, the log gets one warning a minute."""
        if not isinstance(error, ServiceError) and error.code() is grpc.StatusCode.UNAVAILABLE:
            now = self._clock()
            if _in_metadata(error.trailing_metadata()) is None and now - self._warned >= _WARN_SECONDS:
                self._warned = now
                text = f"{self._name} cannot be reached"
                get_logger().warning(text, address=self._address, cause=error.details())
        return status_of(error, self._name)


def status_of(error: grpc.aio.AioRpcError | ServiceError, service: str = "the service") -> status_pb2.Status:
    """Return why a call failed: what the service says, or what is known here where it says nothing."""
    if isinstance(error, ServiceError):
        return _in_metadata(error.status().trailing_metadata) or status_pb2.Status()
    stated = _in_metadata(error.trailing_metadata())
    if stated is not None:
        return stated
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        # gRPC's own text has addresses of this network.
        return status_of(ServiceError(pb.NOT_READY, f"{service} cannot be reached"))
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return status_of(ServiceError(pb.DEADLINE, f"{service} did not answer in the time given"))
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
