"""`cir demo`: a drawn catalog, the real services, and queries over gRPC."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cir.client import Client
from cir.commands.answer_text import print_answer
from cir.commands.sheet_pictures import write_sheet
from cir.commands.up import print_serving
from cir.demo.catalog import write_catalog
from cir.demo.queries import demo_queries
from cir.extras import require
from cir.failure import Failure
from cir.local.plan import LOOPBACK, UpOptions
from cir.local.ports import resolve_ports
from cir.local.running import Stopped, running

CATALOG = "garments"
# Of open_clip's architectures the one that answers soonest on a laptop without a GPU.
MODEL, WEIGHTS = "ViT-S-32-alt", "random:0"
_SHOWN = 5


def demo(
    once: Annotated[bool, typer.Option("--once", help="Stop after the queries.")] = False,
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Data directory of the demo.")] = Path(
        "cir-demo"
    ),
    model: Annotated[str, typer.Option("--model", help="open_clip architecture.")] = MODEL,
    pretrained: Annotated[
        str, typer.Option("--pretrained", metavar="TAG|FILE|random[:SEED]", help="Weights.")
    ] = WEIGHTS,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65533, help="Port of the search service; 0 picks one.")
    ] = 50050,
) -> None:
    """Draw a small catalog, index it and search it through the real services, which then stay up."""
    require("demo", what="cir demo")
    started = time.monotonic()
    manifest = write_catalog(data / "catalog")
    print(f"drew {len(manifest.read_text().splitlines())} garments: {manifest.parent}", flush=True)
    ports = resolve_ports(port, None, None)
    options = UpOptions(data, model, pretrained, LOOPBACK, *ports)
    print(f"starting the services with {model}/{pretrained} ...", flush=True)
    if pretrained.startswith("random"):
        print(
            "NOTE: these weights are random, nothing was trained or downloaded. Such a model sees colours, "
            "shapes and patterns, but does not understand a word: texts move the query in a direction "
            "without meaning. For real answers: cir up --pretrained TAG or FILE.",
            flush=True,
        )
    try:
        with running(options, start_timeout=300.0, on_serving=print_serving) as services:
            _index(manifest, options)
            _query(options, data)
            print(f"\nall of this took {time.monotonic() - started:.0f} s", flush=True)
            if once:
                return
            print(
                f"the services stay up; try: cir search -c {CATALOG} --item dress-red-dots"
                f"{'' if port == 50050 else f' --server {LOOPBACK}:{options.port}'}\nCtrl-C stops all",
                flush=True,
            )
            services.watch()
    except Stopped:
        raise Failure("stopped before all services were up", exit_code=130) from None
    print("stopped")


def _index(manifest: Path, options: UpOptions) -> None:
    from cir.commands.indexing import run_index

    outcome = run_index(
        catalog=CATALOG,
        path=manifest,
        root=None,
        text_fields=(),
        image_base="",
        store_url=options.store,
        store_api_key="",
        embedder=f"{LOOPBACK}:{options.embedder_port}",
        options={},
        quiet=True,
    )
    print(f"indexed {outcome.text}", flush=True)


def _query(options: UpOptions, data: Path) -> None:
    sheets = data / "sheets"
    with Client(f"{LOOPBACK}:{options.port}") as client:
        for number, query in enumerate(demo_queries(CATALOG), start=1):
            asked = time.perf_counter()
            answer = client.search(CATALOG, turns=query.turns, where=query.where, limit=_SHOWN)
            elapsed_ms = (time.perf_counter() - asked) * 1000
            sheet = sheets / f"{number}.png"
            print(f"\n{number}. {query.title}\n   {query.code}")
            print_answer(answer)
            write_sheet(
                sheet, heading=query.title, turns=query.turns, answer=answer, client=client, catalog=CATALOG
            )
            print(f"{elapsed_ms:.1f} ms as seen by the client; contact sheet: {sheet}", flush=True)
