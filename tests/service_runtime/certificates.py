"""Certificates for tests: an authority, and files of what it issued."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import grpc
import trustme

from cir.channel import TlsFiles


@dataclass(frozen=True)
class Pair:
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """An authority, with its files in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._ca = trustme.CA()
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(
        self,
        name: str,
        *,
        names: tuple[str, ...] = ("localhost", "127.0.0.1"),
        not_after: datetime | None = None,
    ) -> Pair:
        """Issue a certificate for this machine, as server and as client."""
        issued = self._ca.issue_cert(*names, not_after=not_after)
        pair = Pair(self._folder / f"{self._name}-{name}.crt", self._folder / f"{self._name}-{name}.key")
        pair.certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        pair.key.write_bytes(issued.private_key_pem.bytes())
        return pair

    def client(self, pair: Pair | None = None) -> TlsFiles:
        """Return the files of a client that trusts this authority, with or without its own certificate."""
        return TlsFiles(self.file, pair.certificate if pair else None, pair.key if pair else None)

    def credentials(self, pair: Pair | None = None) -> grpc.ChannelCredentials:
        """Return the same as credentials of a channel."""
        return self.client(pair).credentials()
