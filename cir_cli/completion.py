"""Names that a shell completes: those of catalogs, asked of the search service."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from cir.channel import TlsFiles
from cir.client import Client

_SECONDS = 1.0


def complete_catalogs(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of catalogs that begin as given; none where the service does not answer at once.

    A person waits at the prompt: whatever is wrong with service, options or profile is not said here.
    """
    given: dict[str, Any] = context.params
    try:
        files = [
            Path(given[name]) if given.get(name) else None for name in ("ca_file", "cert_file", "key_file")
        ]
        tls = TlsFiles(*files) if files[0] else None
        with (
            _silence(),
            Client(given["server"], api_key=given["api_key"] or "", tls=tls, timeout=_SECONDS) as client,
        ):
            return [each.name for each in client.catalogs() if each.name.startswith(incomplete)]
    except Exception:
        return []


@contextmanager
def _silence() -> Iterator[None]:
    """Keep gRPC's own lines about connections from standard error, where the person is writing."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
