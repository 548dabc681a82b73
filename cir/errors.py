"""Exceptions of failed calls: one exception class for each gRPC code that callers treat differently."""

from __future__ import annotations

from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

_DOMAIN = "cir"
_REQUEST_ID = "x-request-id"


class CirError(Exception):
    """A call that failed, or a request that could not be built.

    `reason` is a name of `cir.common.v1.ErrorReason`, empty where no service said one; `field` the path
    of the request field at fault; `retry_after` the seconds after which trying again makes sense;
    `request_id` the id under which the services logged the call; `details` the service's own words, where
    `message` says more. All but `code`, `message` and `details` may be empty.
    """

    code = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        field: str = "",
        retry_after: float | None = None,
        metadata: dict[str, str] | None = None,
        request_id: str = "",
        details: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code or type(self).code
        self.message = message
        self.reason = reason
        self.field = field
        self.retry_after = retry_after
        self.metadata = metadata or {}
        self.request_id = request_id
        self.details = details or message


class InvalidArgument(CirError, ValueError):
    """The request cannot be used as it is; also raised before anything is sent."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(CirError):
    """No such catalog, version, item or combiner."""

    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(CirError):
    """There is a catalog of this name."""

    code = grpc.StatusCode.ALREADY_EXISTS


class Aborted(CirError):
    """Another call is writing the same version or catalog: try again after `retry_after` seconds."""

    code = grpc.StatusCode.ABORTED


class FailedPrecondition(CirError):
    """Models that do not fit together, or a version in another state than the call needs."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Unavailable(CirError):
    """The service, or one that it needs, cannot be reached."""

    code = grpc.StatusCode.UNAVAILABLE


class ResourceExhausted(CirError):
    """A message over the size limit; overload has its own class."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Overloaded(ResourceExhausted):
    """The service has as much work as it takes: try again after `retry_after` seconds."""


class RateLimited(Overloaded):
    """The API key (or this machine's address) has used up its rate: try again after `retry_after` seconds."""


class DeadlineExceeded(CirError, TimeoutError):
    """The call's time ran out."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Unauthenticated(CirError):
    """No API key, or one that is not known."""

    code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(CirError):
    """The API key lacks the scope that the call needs, or is not for the catalog."""

    code = grpc.StatusCode.PERMISSION_DENIED


class Unimplemented(CirError):
    """A part of the contract that this server does not serve."""

    code = grpc.StatusCode.UNIMPLEMENTED


_BY_CODE: dict[grpc.StatusCode, type[CirError]] = {
    kind.code: kind
    for kind in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        Aborted,
        FailedPrecondition,
        Unavailable,
        ResourceExhausted,
        DeadlineExceeded,
        Unauthenticated,
        PermissionDenied,
        Unimplemented,
    )
}


def from_rpc_error(error: grpc.RpcError, *, address: str, timeout: float) -> CirError:
    """The exception for a failed call to `address` that was given `timeout` seconds."""
    # Errors of both clients also are calls, with code, details and metadata; the base class alone is not.
    call: Any = error
    code: grpc.StatusCode = call.code()
    details: str = call.details() or "no message"
    text = details
    facts = _facts(call)
    kind = _BY_CODE.get(code, CirError)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and facts["reason"] == "OVERLOADED":
        kind = Overloaded
    elif code is grpc.StatusCode.RESOURCE_EXHAUSTED and facts["reason"] == "RATE_LIMITED":
        kind = RateLimited
    elif code is grpc.StatusCode.UNAVAILABLE and "handshake" in text.lower():
        text = (
            f"no TLS connection to {address} ({text}); check that the service uses TLS, that its certificate "
            "is valid, of a trusted authority and for this name, and whether it asks for a client certificate"
        )
    elif code is grpc.StatusCode.UNAVAILABLE and not facts["reason"]:
        # What a server does with a client that does not speak TLS, and with one connection too many.
        closed = ", use TLS if it does, and see its max_connections" if "Socket closed" in text else ""
        text = f"cannot reach {address} ({text}); start the service, or give its address{closed}"
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED and not facts["reason"]:
        text = f"{address} did not answer within {timeout:g} s; allow a longer timeout"
    return kind(text, code=code, details=details, **facts)


def _facts(call: Any) -> dict[str, Any]:
    """Everything that the google.rpc details and the metadata of a failed call say."""
    facts: dict[str, Any] = {"reason": "", "field": "", "retry_after": None, "metadata": {}, "request_id": ""}
    for key, value in call.trailing_metadata() or ():
        if key == _REQUEST_ID:
            facts["request_id"] = value
    try:
        status = rpc_status.from_call(call)
    except ValueError:
        status = None  # details that contradict the call's own code are not to be trusted
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info) and info.domain == _DOMAIN:
            facts["reason"], facts["metadata"] = info.reason, dict(info.metadata)
        elif detail.Unpack(request) and request.field_violations:
            facts["field"] = request.field_violations[0].field
        elif detail.Unpack(retry):
            facts["retry_after"] = retry.retry_delay.ToNanoseconds() / 1e9
    return facts
