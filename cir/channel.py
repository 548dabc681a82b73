"""Channels to the services: TLS, keys, timeouts, keep-alive, replicas, and the standard health check.

`digest` is how API keys are compared and stored; `metadata` is how a key travels with a call."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from cir.address import Address, UnixSocket, parse_target
from cir.errors import InvalidArgument
from cir.proxy import proxy_options

HEADER = "x-api-key"
_PREFIX = "cir_"
_RANDOM_BYTES = 32


def new_key() -> str:
    """A key of 256 random bits that can be sent as it is."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def digest(api_key: str) -> bytes:
    """SHA-256 of a key: what a service keeps of it. Enough for random keys, which nobody can guess."""
    return hashlib.sha256(api_key.encode(errors="surrogateescape")).digest()


def metadata(api_key: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call; empty without a key.

    Raises:
        InvalidArgument: a key that cannot be sent.
    """
    if not api_key:
        return ()
    if not (api_key.isascii() and api_key.isprintable()):
        raise InvalidArgument("an API key has printable ASCII characters only", reason="KEY_MISSING")
    return ((HEADER, api_key),)


MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_LONGEST_TIMEOUT_S = 1e8

# The copy of clients/service_config.json that this package brings along.
_SERVICE_CONFIG = Path(__file__).with_name("service_config.json").read_text(encoding="utf-8")

OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    # A request that the buffer has no room for is sent once only; without this the buffer has 256 KiB.
    ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A replica whose machine is gone closes no connection. It is given up while a call of ten seconds still
    # has time for another one. What grpcio goes by is the second; before 1.64 it was the third.
    ("grpc.keepalive_time_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a TLS client: the authority to trust, and for mutual TLS its own certificate and key."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            OSError: a file cannot be read.
            InvalidArgument: half of a pair is missing.
        """
        if (self.certificate is None) != (self.key is None):
            raise InvalidArgument("a client certificate and its key are given together or not at all")

        def read(path: Path | None) -> bytes | None:
            return path.read_bytes() if path is not None else None

        return grpc.ssl_channel_credentials(read(self.ca), read(self.key), read(self.certificate))


def call_timeout(seconds: float) -> float | None:
    """Return what gRPC takes as the timeout of a call: None where `seconds` sets no limit (math.inf).

    Raises:
        InvalidArgument: no number of seconds, or none above 0.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise InvalidArgument(
            f"timeout is {seconds!r}; expected seconds above 0, or math.inf for no limit", field="timeout"
        )
    # Beyond some hundred years the moment of a deadline overflows, and the call would end at once.
    return float(seconds) if seconds <= _LONGEST_TIMEOUT_S else None


@dataclass(frozen=True, slots=True)
class Recipe:
    """The recipe of every channel of the project: gRPC's target, the options, and credentials for TLS."""

    target: str
    options: tuple[tuple[str, Any], ...]
    credentials: grpc.ChannelCredentials | None

    def open(self) -> grpc.Channel:
        """Open a blocking channel of this process. Connects on the first call."""
        if self.credentials is None:
            return grpc.insecure_channel(self.target, options=self.options)
        return grpc.secure_channel(self.target, self.credentials, options=self.options)

    def open_async(self, interceptors: Sequence[grpc.aio.ClientInterceptor] = ()) -> grpc.aio.Channel:
        """Open an asyncio channel of the running event loop. Connects on the first call."""
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.target, options=self.options, interceptors=interceptors)
        return grpc.aio.secure_channel(
            self.target, self.credentials, options=self.options, interceptors=interceptors
        )


def recipe(address: str, tls: TlsFiles | None = None) -> Recipe:
    """Return how to reach an address (see `cir.address.parse_target`); `tls` None does not encrypt.

    Raises:
        InvalidArgument: the address names nothing that can be called, or half of a pair of `tls` is missing.
        OSError: a file of `tls` cannot be read.
    """
    target = parse_target(address)
    text = str(target)
    if isinstance(target, Address):
        # gRPC reads a URL, in which the zone of a link-local address has its percent sign quoted.
        text = f"dns:///{text.replace('%', '%25')}"
    options = OPTIONS + proxy_options(target)
    if isinstance(target, UnixSocket):
        # The name that a certificate needs; gRPC would look for the path.
        options += (("grpc.default_authority", "localhost"),)
    return Recipe(text, options, tls.credentials() if tls is not None else None)


def open_channel(address: str, *, tls: TlsFiles | None = None) -> grpc.Channel:
    """Open a blocking channel to an address. Raises as `recipe` does."""
    return recipe(address, tls).open()


def open_async_channel(
    address: str, *, tls: TlsFiles | None = None, interceptors: Sequence[grpc.aio.ClientInterceptor] = ()
) -> grpc.aio.Channel:
    """Open an asyncio channel of the running loop to an address. Raises as `recipe` does."""
    return recipe(address, tls).open_async(interceptors)


def is_serving(address: str, service: str, *, timeout: float = 2.0, tls: TlsFiles | None = None) -> bool:
    """Return whether `service` (its full name; empty: the process itself) at "host:port" takes calls."""
    # Only here: a client that never asks need not wait for its import.
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with open_channel(address, tls=tls) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service=service)
            answer = stub.Check(request, timeout=call_timeout(timeout))
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
