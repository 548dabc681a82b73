"""Asking a gRPC service for its health, without the health package that only services install.

The two messages of grpc.health.v1 have one field each, so they are written and read by hand.
"""

from __future__ import annotations

from typing import Any

import grpc

from cir.channel import TlsFiles, open_channel

_METHOD = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"  # field 1, varint: status SERVING


def is_serving(address: str, service: str, *, timeout: float = 2.0, tls: TlsFiles | None = None) -> bool:
    """Whether `service` (its full name; empty: the process itself) at "host:port" takes calls."""
    with open_channel(address, tls=tls) as channel:
        name = service.encode()
        try:
            check: Any = channel.unary_unary(_METHOD)
            answer = check(b"\x0a" + bytes([len(name)]) + name if name else b"", timeout=timeout)
        except grpc.RpcError:
            return False
    return bool(answer == _SERVING)
