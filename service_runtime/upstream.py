"""A failed call to another service, as the refusal that our own caller gets."""

from __future__ import annotations

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cir.common.v1 import errors_pb2 as pb
from service_runtime.errors import DOMAIN, ServiceError, grpc_code

_PASSED_ON = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)


def to_service_error(
    error: grpc.aio.AioRpcError, *, service: str, address: str, unavailable: pb.ErrorReason.ValueType
) -> ServiceError:
    """Translate the failure of a call to `service` at `address` into the refusal for our own caller.

    The caller's own faults keep their reason, overload and deadline keep their meaning; everything
    else means that the service cannot do its part: `unavailable`.
    """
    code, text = error.code(), error.details() or "no message"
    reason, retry_after, metadata = _details(error)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ServiceError(pb.DEADLINE, f"the {service} did not answer in the time left; allow more time")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and reason in (pb.OVERLOADED, pb.RATE_LIMITED):
        return ServiceError(pb.OVERLOADED, f"the {service} is busy: {text}", retry_after=retry_after or 0.2)
    if code in _PASSED_ON and reason is not None and grpc_code(reason) is code:
        return ServiceError(reason, text, metadata=metadata)
    return ServiceError(
        unavailable,
        f"the {service} at {address} cannot be used ({code.name}: {text}); {_advice(code, text)}",
        retry_after=1.0,
    )


def _advice(code: grpc.StatusCode, text: str) -> str:
    """Return what the operator of this service can do; its own caller cannot."""
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return "correct upstream_api_key in this service's settings"
    if "handshake" in text.lower():
        return "correct upstream_tls and the files next to it in this service's settings"
    return "start it, or correct its address in this service's settings"


def _details(
    error: grpc.aio.AioRpcError,
) -> tuple[pb.ErrorReason.ValueType | None, float | None, dict[str, str]]:
    """Return reason, retry delay in seconds and metadata from the google.rpc details, where there are any."""
    reason: pb.ErrorReason.ValueType | None = None
    retry_after: float | None = None
    metadata: dict[str, str] = {}
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # has what a call has
    except ValueError:
        status = None
    for detail in status.details if status is not None else ():
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info) and info.domain == DOMAIN and info.reason in pb.ErrorReason.keys():  # noqa: SIM118
            reason, metadata = pb.ErrorReason.Value(info.reason), dict(info.metadata)
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    return reason, retry_after, metadata
