"""Options that several commands have, and what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cir.channel import TlsFiles
from cir.client import Client

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
Timeout = Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds that a call may take.")]
Data = Annotated[
    Path,
    typer.Option("--data", envvar="CIR_DATA", metavar="DIR", help="Data directory of the local services."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def connect(server: str, api_key: str, ca_file: Path | None, timeout: float) -> Client:
    """A client for the options of a command."""
    return Client(
        server, api_key=api_key, timeout=timeout, tls=TlsFiles(ca=ca_file) if ca_file is not None else None
    )
