"""The client of a Qdrant server or cluster, over gRPC only, and its errors as errors of the store."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from qdrant_client import AsyncQdrantClient
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException

from cir.address import Address
from cir.proxy import proxy_options
from vector_store.errors import InvalidQueryError, StoreError, StoreUnavailableError, VersionNotFoundError

# Batches with payload and pages with vectors are larger than the 4 MB that gRPC allows by default.
_MAX_MESSAGE_BYTES = 256 << 20

# A node that restarts is away for some seconds. Every call of the store may be made twice without harm, so
# the transport tries again within the call's time; gRPC caps the attempts at five.
_RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.5s",
                "maxBackoff": "4s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

# A node whose machine is gone closes no connection. It is asked for a sign of life while calls are under way,
# and given up early enough for the next attempt to reach another node within the call's time.
_KEEPALIVE_MS = 3_000
_PING_TIMEOUT_MS = 4_000


def connect(
    address: Address, *, tls: bool, api_key: str, timeout_s: float, ca: bytes = b""
) -> AsyncQdrantClient:
    """A client that connects with its first call; `timeout_s` (rounded up to seconds) holds for each call.

    `ca` is the PEM of the authorities to trust with TLS, empty for those of the system. A key without TLS
    to another machine is sent in the clear, of which the client warns.
    """
    options: dict[str, Any] = {
        "grpc.max_receive_message_length": _MAX_MESSAGE_BYTES,
        "grpc.max_send_message_length": _MAX_MESSAGE_BYTES,
        "grpc.enable_retries": 1,
        "grpc.service_config": json.dumps(_RETRIES),
        # Two minutes by default: a node that is back must be found with the next attempt.
        "grpc.initial_reconnect_backoff_ms": 200,
        "grpc.min_reconnect_backoff_ms": 200,
        "grpc.max_reconnect_backoff_ms": 1_000,
        "grpc.keepalive_time_ms": _KEEPALIVE_MS,
        # This one, and not keepalive_timeout_ms, is what grpcio 1.85 gives a connection up by.
        "grpc.http2.ping_timeout_ms": _PING_TIMEOUT_MS,
        **dict(proxy_options(address)),
    }
    if ca:
        options["root_certificates"] = ca
    with warnings.catch_warnings():
        if address.is_loopback:
            # Nobody listens in between, so the warning would only be noise.
            warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")
        return AsyncQdrantClient(
            # It puts host and port together for gRPC, which wants brackets around IPv6.
            host=str(address.host),
            grpc_port=address.port,
            prefer_grpc=True,
            https=tls,
            api_key=api_key or None,
            timeout=math.ceil(timeout_s),
            # The check would go to the REST port, which need not be reachable.
            check_compatibility=False,
            grpc_options=options,
            # No call is made over REST, but its client would be set up for the proxies of the environment.
            trust_env=False,
        )


class AlreadyExistsError(StoreError):
    """A collection of that name exists; another process was faster."""


@contextmanager
def engine_errors(act: str) -> Iterator[None]:
    """Run client calls; `act` says what was being done ('search ...'), for the message."""
    try:
        yield
    except StoreError:
        raise
    except grpc.RpcError as error:
        raise _from_rpc(act, error) from error
    except (QdrantException, ApiException, grpc.aio.UsageError, OSError) as error:
        raise StoreUnavailableError(f"cannot {act}: {error}") from error
    except (ValueError, RuntimeError) as error:
        # How the client's local mode reports what a server answers with a status code.
        text = str(error)
        if "not found" in text:
            raise VersionNotFoundError(f"cannot {act}: {text}") from error
        if "already exists" in text:
            raise AlreadyExistsError(text) from error
        raise StoreUnavailableError(f"cannot {act}: {text}") from error


def _from_rpc(act: str, error: grpc.RpcError) -> StoreError:
    code = error.code()
    details = error.details() or code.name
    match code:
        case grpc.StatusCode.NOT_FOUND:
            return VersionNotFoundError(f"cannot {act}: {details}")
        case grpc.StatusCode.ALREADY_EXISTS:
            return AlreadyExistsError(details)
        case grpc.StatusCode.INVALID_ARGUMENT if "already exists" in details:
            return AlreadyExistsError(details)
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.OUT_OF_RANGE:
            return InvalidQueryError(f"cannot {act}: Qdrant refuses it: {details}")
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return StoreUnavailableError(
                f"cannot {act}: Qdrant refuses the API key ({details}); set the right key"
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return StoreUnavailableError(
                f"cannot {act}: Qdrant did not answer in time; try again or allow more time"
            )
        case _:
            return StoreUnavailableError(f"cannot {act}: {code.name}: {details}")
