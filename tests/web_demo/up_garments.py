"""`cir up` with the shipped models, the web demo and known queries: DATA TRIPLETS. For the browser tests."""

from __future__ import annotations

import sys
from pathlib import Path

from cir_cli.local.plan import SHIPPED, SHIPPED_MODEL, UpOptions
from cir_cli.local.processes import running
from cir_cli.local.readiness import free_ports


def main(data: str, triplets: str) -> None:
    """Run until SIGTERM."""
    search, embedder, combiner, web = free_ports(4)
    options = UpOptions(
        Path(data),
        SHIPPED_MODEL,
        SHIPPED,
        "127.0.0.1",
        search,
        embedder,
        combiner,
        web_port=web,
        known_queries=(Path(triplets),),
    )
    with running(options, start_timeout=120, on_serving=lambda spec: None) as services:
        print("up ", flush=True)
        services.watch()


if __name__ == "__main__":
    main(*sys.argv[1:])
