"""Drawn garments behind the services of `cir up` with the shipped models, as catalog "garments"."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cir_cli.local.plan import LOOPBACK, SHIPPED, SHIPPED_MODEL, UpOptions
from cir_cli.local.processes import running
from cir_cli.local.readiness import free_ports
from cir_cli.run_index import run_index
from garments.catalog import make_catalog

CATALOG = "garments"


@contextmanager
def garments_up(
    size: int,
    *,
    image_size: tuple[int, int] = (192, 256),
    web: bool = False,
    known_queries: bool = False,
    http: bool = False,
) -> Iterator[UpOptions]:
    """Draw `size` garments, start the services, with web demo and HTTP gateway where asked for, and index.

    Yields what was asked of `cir up`: ports and folders. For the main thread alone, which hears of signals.
    """
    with tempfile.TemporaryDirectory() as name:
        made = make_catalog(Path(name) / "garments", size=size, seed=1, workers=2, image_size=image_size)
        search, embedder, combiner, web_port, http_port = free_ports(5)
        up = UpOptions(
            Path(name) / "data",
            SHIPPED_MODEL,
            SHIPPED,
            LOOPBACK,
            search,
            embedder,
            combiner,
            web_port=web_port if web else 0,
            http_port=http_port if http else 0,
            known_queries=(made.triplets,) if known_queries else (),
        )
        with running(up, start_timeout=120, on_serving=lambda spec: None):
            run_index(
                catalog=CATALOG,
                path=made.manifest,
                root=None,
                text_fields=(),
                image_base="",
                store_url=up.store,
                store_api_key="",
                embedder=f"{LOOPBACK}:{up.embedder_port}",
                quiet=True,
                data=up.data,
            )
            yield up
