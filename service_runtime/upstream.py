"""A failed call to another service, as the refusal that our own caller gets."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import grpc

from cir.common.v1 import errors_pb2 as pb
from cir.errors import CirError
from service_runtime.errors import ServiceError, grpc_code

_PASSED_ON = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)


def to_service_error(
    error: CirError,
    *,
    service: str,
    address: str,
    unavailable: pb.ErrorReason.ValueType,
    fields: Mapping[str, str] = MappingProxyType({}),
) -> ServiceError:
    """Translate the failure of a call to `service` at `address` into the refusal for our own caller.

    The caller's own faults keep their reason, overload and deadline keep their meaning; everything
    else means that the service cannot do its part: `unavailable`. `fields` are those of our own caller's
    request by the ones of the other service's that they are sent as.
    """
    code, text, reason = error.code, error.details, _reason(error)
    facts = {"upstream": service, "upstream_address": address, "upstream_code": code.name}
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ServiceError(
            pb.DEADLINE, f"the {service} did not answer in the time left; allow more time", log_facts=facts
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and reason in (pb.OVERLOADED, pb.RATE_LIMITED):
        return ServiceError(
            pb.OVERLOADED,
            f"the {service} is busy: {text}",
            retry_after=error.retry_after or 0.2,
            log_facts=facts,
        )
    if code in _PASSED_ON and reason is not None and grpc_code(reason) is code:
        return ServiceError(reason, text, field=fields.get(error.field, ""), metadata=error.metadata)
    return ServiceError(
        unavailable,
        f"the {service} at {address} cannot be used ({code.name}: {text}); {_advice(code, text)}",
        retry_after=1.0,
        log_facts=facts,
    )


def _advice(code: grpc.StatusCode, text: str) -> str:
    """Return what the operator of this service can do; its own caller cannot."""
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return "correct upstream_api_key in this service's settings"
    if "handshake" in text.lower():
        return "correct upstream_tls and the files next to it in this service's settings"
    return "start it, or correct its address in this service's settings"


def _reason(error: CirError) -> pb.ErrorReason.ValueType | None:
    """Return the reason that the other service named, where this one knows it."""
    known = error.reason in pb.ErrorReason.keys()  # noqa: SIM118
    return pb.ErrorReason.Value(error.reason) if known else None
