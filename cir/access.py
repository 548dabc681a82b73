"""How a service is reached: with or without TLS, with or without an API key."""

from __future__ import annotations

from dataclasses import dataclass, field

from cir.channel import TlsFiles
from cir.client import Client


@dataclass(frozen=True, slots=True)
class Access:
    """`tls` None connects without encryption."""

    api_key: str = field(default="", repr=False)
    tls: TlsFiles | None = None

    def client(self, address: str, *, timeout: float) -> Client:
        """A client of the service at "host:port". Raises `OSError` for files that cannot be read."""
        return Client(address, api_key=self.api_key, tls=self.tls, timeout=timeout)
