"""A client of a Qdrant server or cluster, over gRPC only."""

from __future__ import annotations

import math
import warnings

from qdrant_client import AsyncQdrantClient

# Batches with payload and pages with vectors are larger than the 4 MB that gRPC allows by default.
_MAX_MESSAGE_BYTES = 256 << 20


_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def connect(host: str, port: int, *, tls: bool, api_key: str, timeout_s: float) -> AsyncQdrantClient:
    """A client that connects with its first call; `timeout_s` (rounded up to seconds) holds for each call.

    A key without TLS to another machine is sent in the clear, of which the client warns.
    """
    with warnings.catch_warnings():
        if host in _LOOPBACK:
            # Nobody listens in between, so the warning would only be noise.
            warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")
        return AsyncQdrantClient(
            host=host,
            grpc_port=port,
            prefer_grpc=True,
            https=tls,
            api_key=api_key or None,
            timeout=math.ceil(timeout_s),
            # The check would go to the REST port, which need not be reachable.
            check_compatibility=False,
            grpc_options={
                "grpc.max_receive_message_length": _MAX_MESSAGE_BYTES,
                "grpc.max_send_message_length": _MAX_MESSAGE_BYTES,
            },
        )
