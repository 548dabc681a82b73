"""Errors that a service answers on purpose: one reason, one gRPC code, google.rpc details (AIP-193)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from cir.common.v1 import errors_pb2 as pb
from cir.extras import install


class StartupError(Exception):
    """The service cannot start; the message is the one line that the operator sees."""


DOMAIN = "cir"

# An error travels in trailing metadata, which clients take up to 8 KiB of, and messages quote what was sent.
MAX_MESSAGE_BYTES = 800
MAX_NAME_BYTES = 200

_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_CODES: dict[pb.ErrorReason.ValueType, grpc.StatusCode] = {
    pb.CATALOG_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    pb.VERSION_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    pb.ITEM_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    pb.COMBINER_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    pb.CATALOG_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    pb.FINGERPRINT_MISMATCH: grpc.StatusCode.FAILED_PRECONDITION,
    pb.VERSION_STATE: grpc.StatusCode.FAILED_PRECONDITION,
    pb.COMBINER_UNUSABLE: grpc.StatusCode.FAILED_PRECONDITION,
    pb.PROMPTS_NOT_TAKEN: grpc.StatusCode.FAILED_PRECONDITION,
    pb.WRITE_CONFLICT: grpc.StatusCode.ABORTED,
    pb.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    pb.RATE_LIMITED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    pb.EMBEDDER_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    pb.COMBINER_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    pb.STORE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    pb.NOT_READY: grpc.StatusCode.UNAVAILABLE,
    pb.DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
    pb.KEY_MISSING: grpc.StatusCode.UNAUTHENTICATED,
    pb.SCOPE_MISSING: grpc.StatusCode.PERMISSION_DENIED,
    pb.CATALOG_NOT_ALLOWED: grpc.StatusCode.PERMISSION_DENIED,
    pb.NOT_SERVED: grpc.StatusCode.UNIMPLEMENTED,
    pb.MODEL_FAILED: grpc.StatusCode.INTERNAL,
}

# A service that starts or stops is soon there, or another one is.
_RETRY_SECONDS: Mapping[pb.ErrorReason.ValueType, float] = {pb.NOT_READY: 1.0}


def grpc_code(reason: pb.ErrorReason.ValueType) -> grpc.StatusCode:
    """Return the gRPC code of a reason; INVALID_ARGUMENT for every fault of the request's content."""
    return _CODES.get(reason, _INVALID)


class ServiceError(Exception):
    """A refusal with its reason.

    `field` is the path of the request field at fault, `retry_after` the seconds after which trying
    again makes sense (1 for NOT_READY, unless it is given), `metadata` further facts for programs. Texts
    that are too long to travel are cut.
    `log_facts` are for this service's log, which never has the message: nothing in them is from a user.
    """

    def __init__(
        self,
        reason: pb.ErrorReason.ValueType,
        message: str,
        *,
        field: str = "",
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
        log_facts: Mapping[str, str] | None = None,
    ) -> None:
        self.message = _shortened(message, MAX_MESSAGE_BYTES)
        super().__init__(self.message)
        self.reason = reason
        self.field = _shortened(field, MAX_NAME_BYTES)
        self.retry_after = _RETRY_SECONDS.get(reason) if retry_after is None else retry_after
        self.metadata = {key: _shortened(value, MAX_NAME_BYTES) for key, value in (metadata or {}).items()}
        self.log_facts = dict(log_facts or {})

    @property
    def code(self) -> grpc.StatusCode:
        """The gRPC code of the reason."""
        return grpc_code(self.reason)

    def status(self) -> grpc.Status:
        """Return the status to abort a call with: code, message and google.rpc details."""
        details: list[any_pb2.Any] = [
            _any(
                error_details_pb2.ErrorInfo(
                    reason=pb.ErrorReason.Name(self.reason), domain=DOMAIN, metadata=self.metadata
                )
            )
        ]
        if self.field:
            violation = error_details_pb2.BadRequest.FieldViolation(
                field=self.field, description=self.message
            )
            details.append(_any(error_details_pb2.BadRequest(field_violations=[violation])))
        if self.retry_after is not None:
            delay = duration_pb2.Duration(
                nanos=int(self.retry_after % 1 * 1e9), seconds=int(self.retry_after)
            )
            details.append(_any(error_details_pb2.RetryInfo(retry_delay=delay)))
        return rpc_status.to_status(
            status_pb2.Status(code=self.code.value[0], message=self.message, details=details)
        )

    def item_error(self, index: int, *, item_id: str = "") -> pb.ItemError:
        """Return the same refusal for one item of a batch."""
        return pb.ItemError(
            index=index, code=self.code.value[0], reason=self.reason, message=self.message, item_id=item_id
        )


def internal_status() -> grpc.Status:
    """Return the status of a call that failed by an error in the service; the log has the trace."""
    return rpc_status.to_status(
        status_pb2.Status(
            code=code_pb2.INTERNAL, message="internal error; the service's log has it under the request id"
        )
    )


def not_installed(names: Sequence[str], extra: str) -> str:
    """Return what to do about modules that are missing, which an environment of an older checkout may be."""
    return (
        f"{' and '.join(names)} cannot be imported from {sys.prefix}: it lacks them, or was installed for an "
        f"older version; {install(extra)}, in a checkout with make demo, or make check for all parts"
    )


def _any(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _shortened(text: str, limit: int) -> str:
    """Cut the text to `limit` bytes of UTF-8."""
    content = text.encode(errors="replace")
    if len(content) <= limit:
        return text
    return content[: limit - 3].decode(errors="ignore") + "..."
