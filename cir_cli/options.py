"""Options that several commands share, and the connection that they describe."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from cir.channel import TlsFiles
from cir.client import Client
from cir_cli.errors import Failure


@dataclass(frozen=True, slots=True)
class Access:
    """`tls` None connects without encryption."""

    api_key: str = field(default="", repr=False)
    tls: TlsFiles | None = None

    def client(self, address: str, *, timeout: float) -> Client:
        """A client of the service at "host:port". Raises `OSError` for files that cannot be read."""
        return Client(address, api_key=self.api_key, tls=self.tls, timeout=timeout)


DEFAULT_SERVER = "127.0.0.1:50050"
DEFAULT_DATA = Path("cir-data")

Server = Annotated[
    str, typer.Option("--server", envvar="CIR_SERVER", metavar="HOST:PORT", help="The search service.")
]
ApiKey = Annotated[
    str, typer.Option("--api-key", envvar="CIR_API_KEY", help="API key, where the service asks for one.")
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file", envvar="CIR_CA_FILE", help="Connect with TLS and trust this authority (PEM file)."
    ),
]
CertFile = Annotated[
    Path | None,
    typer.Option("--cert-file", envvar="CIR_CERT_FILE", help="Client certificate for mutual TLS (PEM file)."),
]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key-file", envvar="CIR_KEY_FILE", help="Private key of --cert-file (PEM file)."),
]
EmbedderApiKey = Annotated[
    str,
    typer.Option(
        "--embedder-api-key", envvar="CIR_EMBEDDER_API_KEY", help="API key, where the embedder asks for one."
    ),
]
EmbedderCaFile = Annotated[
    Path | None,
    typer.Option(
        "--embedder-ca-file",
        envvar="CIR_EMBEDDER_CA_FILE",
        help="Connect to the embedder with TLS and trust this authority (PEM file).",
    ),
]
EmbedderCertFile = Annotated[
    Path | None,
    typer.Option(
        "--embedder-cert-file",
        envvar="CIR_EMBEDDER_CERT_FILE",
        help="Client certificate for mutual TLS with the embedder (PEM file).",
    ),
]
EmbedderKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--embedder-key-file",
        envvar="CIR_EMBEDDER_KEY_FILE",
        help="Private key of --embedder-cert-file (PEM file).",
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds that a call may take.")]
Data = Annotated[
    Path,
    typer.Option("--data", envvar="CIR_DATA", metavar="DIR", help="Data directory of the local services."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def connect(
    server: str,
    api_key: str,
    ca_file: Path | None,
    cert_file: Path | None,
    key_file: Path | None,
    timeout: float,
) -> Client:
    """A client for the options of a command. Raises `Failure` for files that cannot be used."""
    return access(api_key, ca_file, cert_file, key_file).client(server, timeout=timeout)


def access(
    api_key: str, ca_file: Path | None, cert_file: Path | None, key_file: Path | None, *, prefix: str = "--"
) -> Access:
    """How the options say that a service is reached; `prefix` is that of their names.

    Raises `Failure` for files that cannot be read and options that go together.
    """
    if (cert_file is None) != (key_file is None):
        raise Failure(f"{prefix}cert-file and {prefix}key-file go together; give both or neither")
    if cert_file is not None and ca_file is None:
        raise Failure(f"{prefix}cert-file needs TLS; give {prefix}ca-file as well")
    for name, path in (("ca-file", ca_file), ("cert-file", cert_file), ("key-file", key_file)):
        try:
            if path is not None:
                path.read_bytes()
        except OSError as error:
            raise Failure(f"{prefix}{name} {path} cannot be read: {error.strerror or error}") from error
    return Access(api_key, TlsFiles(ca_file, cert_file, key_file) if ca_file is not None else None)
