"""Ask the service of this container for its health, as a container's HEALTHCHECK does.

    python -m service_runtime.health_check cir.search.v1.SearchService CIR_SEARCH_ 50050
    python -m service_runtime.health_check http CIR_DEMO_ 8080

The arguments are the service's full name ("http" for web demo and HTTP gateway), the prefix of its
environment variables, and its port where no setting names one. Host, port and TLS files are those that the
service finds in the environment, or in the file that its CONFIG variable names. Over TLS the certificate must
name localhost; with mutual TLS the service's own certificate is shown as the client's. A proxy is never
asked. Exit code 0: it takes calls; 1: it does not; 2: wrong arguments.

Every container of a host runs this every few seconds, on cores that its service needs. Hence it imports gRPC
and the messages of gRPC's health protocol alone: reading the settings through their classes takes ten times
as long.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

_TIMEOUT_SECONDS = 4.0
_METHOD = "/grpc.health.v1.Health/Check"
_USAGE = (
    "expected the service's full name or http, the prefix of its environment variables, and its default port"
)


def main(arguments: Sequence[str]) -> int:
    """Check once and return the exit code; problems are printed to stderr."""
    if len(arguments) != 3 or not arguments[2].isdigit():
        print(_USAGE, file=sys.stderr)
        return 2
    service, prefix, default_port = arguments
    try:
        setting = _read_settings(prefix)
        address = _address(setting("host"), int(setting("port") or default_port))
        problem = _ask_page(address) if service == "http" else _ask(service, address, setting)
    except (OSError, ValueError) as error:
        print(f"{service}: {error}", file=sys.stderr)
        return 1
    if problem:
        print(f"{service} at {address} {problem}", file=sys.stderr)
        return 1
    return 0


def _address(host: str, port: int) -> str:
    """Return where to ask: "host:port", or a Unix socket."""
    if host in ("", "0.0.0.0", "::", "[::]", "127.0.0.1", "localhost"):  # noqa: S104  # compared with, not bound
        return f"localhost:{port}"
    # Only here: it takes as long as the check.
    from cir.address import parse_listener

    return str(parse_listener(host, port).dialled)


def _ask(service: str, address: str, setting: Callable[[str], str]) -> str:
    """Return what is wrong, empty for nothing."""
    try:
        with _open_channel(address, setting) as channel:
            check = channel.unary_unary(
                _METHOD,
                request_serializer=HealthCheckRequest.SerializeToString,
                response_deserializer=HealthCheckResponse.FromString,
            )
            answer = check(HealthCheckRequest(service=service), timeout=_TIMEOUT_SECONDS)
    except grpc.RpcError as error:
        return f"does not answer: {error.code().name}"
    return "" if answer.status == HealthCheckResponse.SERVING else "does not take calls"


def _ask_page(address: str) -> str:
    from http.client import HTTPConnection, HTTPException  # only here: the services need none

    at_socket = address.startswith("unix")
    connection = HTTPConnection("localhost" if at_socket else address, timeout=_TIMEOUT_SECONDS)
    try:
        if at_socket:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(_TIMEOUT_SECONDS)
            connection.sock.connect(_socket_path(address))
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except HTTPException as error:
        return f"does not speak HTTP: {type(error).__name__}"
    finally:
        connection.close()
    return "" if status == 200 else f"answers {status}"


def _socket_path(address: str) -> str:
    kind, _, path = address.partition(":")
    return f"\0{path}" if kind == "unix-abstract" else path


def _read_settings(prefix: str) -> Callable[[str], str]:
    """Return a function from a setting's name to its text, "" where unset; environment over file."""
    path = os.environ.get(f"{prefix}CONFIG", "")
    in_file: dict[str, Any] = {}
    if path:
        import tomllib  # only here: it takes as long as a tenth of the check

        in_file = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    return lambda name: os.environ.get(f"{prefix}{name.upper()}", "") or str(in_file.get(name, ""))


def _open_channel(address: str, setting: Callable[[str], str]) -> grpc.Channel:
    # Those of `cir.proxy` for this machine.
    options: list[tuple[str, Any]] = [("grpc.enable_http_proxy", 0)]
    certificate = setting("tls_certificate")
    if not certificate:
        return grpc.insecure_channel(address, options)
    # The service's certificate is itself what is trusted, no matter who issued it.
    own = Path(certificate).read_bytes()
    key = Path(setting("tls_key")).read_bytes() if setting("tls_client_ca") else None
    # Whatever host it listens on.
    named = ("grpc.ssl_target_name_override", "localhost")
    credentials = grpc.ssl_channel_credentials(own, key, own if key is not None else None)
    return grpc.secure_channel(address, credentials, [*options, named])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
