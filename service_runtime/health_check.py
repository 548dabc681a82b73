"""Ask the service of this container for its health, as a container's HEALTHCHECK does.

    python -m service_runtime.health_check cir.search.v1.SearchService CIR_SEARCH_ 50050

The arguments are the service's full name, the prefix of its environment variables, and its port where no
setting names one. The port and the TLS files are those that the service finds in the environment, or in the
file that its CONFIG variable names. Over TLS the certificate must name localhost; with mutual TLS the
service's own certificate is shown as the client's. Exit code 0: it takes calls; 1: it does not; 2: wrong
arguments.

Every container of a host runs this every few seconds, on cores that its service needs. Hence it imports gRPC
and the messages of gRPC's health protocol alone: reading the settings through their classes takes ten times
as long.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

_TIMEOUT_SECONDS = 4.0
_METHOD = "/grpc.health.v1.Health/Check"
_USAGE = "expected the service's full name, the prefix of its environment variables, and its default port"


def main(arguments: Sequence[str]) -> int:
    """Check once and return the exit code; problems are printed to stderr."""
    if len(arguments) != 3 or not arguments[2].isdigit():
        print(_USAGE, file=sys.stderr)
        return 2
    service, prefix, default_port = arguments
    try:
        setting = _read_settings(prefix)
        address = f"localhost:{setting('port') or default_port}"
        with _open_channel(address, setting) as channel:
            check = channel.unary_unary(
                _METHOD,
                request_serializer=HealthCheckRequest.SerializeToString,
                response_deserializer=HealthCheckResponse.FromString,
            )
            answer = check(HealthCheckRequest(service=service), timeout=_TIMEOUT_SECONDS)
    except (OSError, ValueError) as error:
        print(f"{service}: {error}", file=sys.stderr)
        return 1
    except grpc.RpcError as error:
        print(f"{service} at {address} does not answer: {error.code().name}", file=sys.stderr)
        return 1
    if answer.status != HealthCheckResponse.SERVING:
        print(f"{service} at {address} does not take calls", file=sys.stderr)
        return 1
    return 0


def _read_settings(prefix: str) -> Callable[[str], str]:
    """Return a function from a setting's name to its text, "" where unset; environment over file."""
    path = os.environ.get(f"{prefix}CONFIG", "")
    in_file: dict[str, Any] = {}
    if path:
        import tomllib  # only here: it takes as long as a tenth of the check

        in_file = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    return lambda name: os.environ.get(f"{prefix}{name.upper()}", "") or str(in_file.get(name, ""))


def _open_channel(address: str, setting: Callable[[str], str]) -> grpc.Channel:
    # Without a proxy that the environment may name for calls to the world.
    options = [("grpc.enable_http_proxy", 0)]
    certificate = setting("tls_certificate")
    if not certificate:
        return grpc.insecure_channel(address, options)
    # The service's certificate is itself what is trusted, no matter who issued it.
    own = Path(certificate).read_bytes()
    key = Path(setting("tls_key")).read_bytes() if setting("tls_client_ca") else None
    return grpc.secure_channel(
        address, grpc.ssl_channel_credentials(own, key, own if key is not None else None), options
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
