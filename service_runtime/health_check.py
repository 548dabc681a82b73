"""Asks the service of this container for its health, as a container's HEALTHCHECK does.

    python -m service_runtime.health_check search_service

The port and the TLS files are those that the service finds in the environment, or in the file that its CONFIG
variable names. Over TLS the certificate must name localhost; with mutual TLS the service's own certificate is
shown as the client's. Exit code 0: it takes calls; 1: it does not; 2: wrong use.

Every container of a host runs this every few seconds, on cores that its service needs. Hence it imports gRPC
and nothing else: reading the settings through their classes takes ten times as long.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

# Name of the service, prefix of its variables, port without any.
SERVICES = {
    "embedder_service": ("cir.embedder.v1.EmbedderService", "CIR_EMBEDDER_", 50051),
    "combiner_service": ("cir.combiner.v1.CombinerService", "CIR_COMBINER_", 50052),
    "search_service": ("cir.search.v1.SearchService", "CIR_SEARCH_", 50050),
}
_TIMEOUT_SECONDS = 4.0
_METHOD = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"  # field 1, varint: status SERVING


def main(arguments: Sequence[str]) -> int:
    """Return the exit code."""
    if len(arguments) != 1 or arguments[0] not in SERVICES:
        print(f"expected one of {', '.join(SERVICES)}", file=sys.stderr)
        return 2
    module = arguments[0]
    name, prefix, default_port = SERVICES[module]
    try:
        found = _Found.under(prefix)
        address = f"localhost:{found('port') or default_port}"
        with _channel(address, found) as channel:
            check: Any = channel.unary_unary(_METHOD)
            answer = check(_request(name), timeout=_TIMEOUT_SECONDS)
    except (OSError, tomllib.TOMLDecodeError) as error:
        print(f"{module}: {error}", file=sys.stderr)
        return 1
    except grpc.RpcError as error:
        print(f"{module} at {address} does not answer: {error.code().name}", file=sys.stderr)
        return 1
    if answer != _SERVING:
        print(f"{module} at {address} does not take calls", file=sys.stderr)
        return 1
    return 0


@dataclass(frozen=True, slots=True)
class _Found:
    """Settings as text, by their name; empty where there is none. The environment goes before the file."""

    prefix: str
    file: dict[str, Any]

    @classmethod
    def under(cls, prefix: str) -> _Found:
        path = os.environ.get(f"{prefix}CONFIG", "")
        return cls(prefix, tomllib.loads(Path(path).read_text()) if path else {})

    def __call__(self, name: str) -> str:
        return os.environ.get(f"{self.prefix}{name.upper()}", "") or str(self.file.get(name, ""))


def _channel(address: str, found: _Found) -> grpc.Channel:
    # Without a proxy that the environment may name for calls to the world.
    options = [("grpc.enable_http_proxy", 0)]
    certificate = found("tls_certificate")
    if not certificate:
        return grpc.insecure_channel(address, options)
    # The service's certificate is itself what is trusted, whoever issued it.
    own = Path(certificate).read_bytes()
    key = Path(found("tls_key")).read_bytes() if found("tls_client_ca") else None
    return grpc.secure_channel(
        address, grpc.ssl_channel_credentials(own, key, own if key is not None else None), options
    )


def _request(name: str) -> bytes:
    # HealthCheckRequest has one field: the service's name.
    return b"\x0a" + bytes([len(name)]) + name.encode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
