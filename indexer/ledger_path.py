"""Where a catalog's ledger is kept. Pure."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit


def ledger_path(store_url: str, catalog: str, data: Path) -> Path:
    """The ledger of a catalog: inside an embedded store's folder, else below the data directory `data`, in a
    folder named after the server."""
    parts = urlsplit(store_url)
    if parts.scheme == "edge":
        return Path(unquote(parts.path)) / "ledgers" / f"{catalog}.sqlite"
    server = re.sub(r"[^a-z0-9.-]", "_", parts.netloc.rpartition("@")[2].lower())
    return data / "ledgers" / (server or "store") / f"{catalog}.sqlite"
