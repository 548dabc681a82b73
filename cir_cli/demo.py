"""`cir demo`: a drawn catalog, the real services, and queries over gRPC."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cir.client import Client
from cir_cli.errors import INTERRUPTED, Failure, require
from cir_cli.local.plan import LOOPBACK, SHIPPED, SHIPPED_MODEL, UpOptions
from cir_cli.local.processes import Stopped, running
from cir_cli.local.readiness import own_tls, resolve_ports, web_port
from cir_cli.output import print_answer
from cir_cli.up import print_serving

CATALOG = "garments"
_GARMENTS = 600
_LOOKED_AT, _SHOWN = 10, 5


def demo(
    once: Annotated[bool, typer.Option("--once", help="Stop after the queries.")] = False,
    folder: Annotated[Path, typer.Option("--data", metavar="DIR", help="Data directory of the demo.")] = Path(
        "cir-demo"
    ),
    model: Annotated[str, typer.Option("--model", help="open_clip architecture.")] = SHIPPED_MODEL,
    pretrained: Annotated[
        str, typer.Option("--pretrained", metavar="TAG|FILE|random[:SEED]", help="Weights.")
    ] = SHIPPED,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65533, help="Port of the search service; 0 picks one.")
    ] = 50050,
    web_port_: Annotated[
        int | None,
        typer.Option(
            "--web-port",
            envvar="CIR_DEMO_PORT",
            min=0,
            max=65535,
            help="Port of the web demo. Default: 8080, or a free one.",
        ),
    ] = None,
) -> None:
    """Draw a small catalog, index it and search it through the real services, which then stay up."""
    require("demo", what="cir demo")
    started = time.monotonic()
    catalog = folder / "catalog"
    ports = resolve_ports(port, None, None)
    options = UpOptions(
        folder,
        model,
        pretrained,
        LOOPBACK,
        *ports,
        web_port=0 if once else web_port(0 if port == 0 and web_port_ is None else web_port_, ports),
        known_queries=(catalog / "triplets.jsonl",),
        search_tls=own_tls("search_service"),
    )

    def prepare() -> None:
        _draw(catalog)
        print(f"starting the services with {model}/{pretrained} ...", flush=True)
        if pretrained.startswith("random"):
            print(
                "NOTE: these weights are random, nothing was trained or downloaded. Such a model sees "
                "colours, shapes and patterns, but does not understand a word: texts move the query in a "
                "direction without meaning. For real answers: cir up --pretrained TAG or FILE.",
                flush=True,
            )

    try:
        with running(options, start_timeout=300.0, on_serving=print_serving, prepare=prepare) as services:
            _index(catalog / "garments.jsonl", options)
            _query(options, catalog, folder / "sheets")
            print(f"\nall of this took {time.monotonic() - started:.0f} s", flush=True)
            if once:
                return
            print(
                f"open http://{LOOPBACK}:{options.web_port}/?c={CATALOG} in a browser; or try: "
                f'cir search {CATALOG} --text "a red striped dress"'
                f"{'' if port == 50050 else f' --server {LOOPBACK}:{options.port}'}\nCtrl-C stops all",
                flush=True,
            )
            services.watch()
    except Stopped:
        raise Failure("stopped before all services were up", exit_code=INTERRUPTED) from None
    print("stopped")


def _draw(folder: Path) -> None:
    from garments.catalog import CatalogError, make_catalog

    try:
        made = make_catalog(folder, size=_GARMENTS, seed=1, workers=min(4, os.cpu_count() or 1))
    except CatalogError as error:
        raise Failure(str(error)) from error
    print(f"drew {made.counts['garments']} garments: {folder}", flush=True)


def _index(manifest: Path, options: UpOptions) -> None:
    from cir_cli.run_index import run_index

    outcome = run_index(
        catalog=CATALOG,
        path=manifest,
        root=None,
        text_fields=(),
        image_base="",
        store_url=options.store,
        store_api_key="",
        embedder=f"{LOOPBACK}:{options.embedder_port}",
        quiet=True,
    )
    print(f"indexed {outcome.text}", flush=True)


def _query(options: UpOptions, garments: Path, sheets: Path) -> None:
    from cir_cli.contact_sheet import write_sheet
    from cir_cli.demo_queries import demo_queries

    sheets.mkdir(parents=True, exist_ok=True)
    with Client(f"{LOOPBACK}:{options.port}", tls=options.search_tls) as client:
        for number, query in enumerate(demo_queries(CATALOG, garments), start=1):
            asked = time.perf_counter()
            answer = client.search(CATALOG, turns=query.turns, where=query.where, page_size=_LOOKED_AT)
            elapsed_ms = (time.perf_counter() - asked) * 1000
            sheet = sheets / f"{number}.png"
            print(f"\n{number}. {query.title}\n   {query.code}")
            ranks = [result.rank for result in answer if result.id in query.right]
            answer = replace(answer, results=answer.results[:_SHOWN])
            print_answer(answer)
            found = f"found: rank {ranks[0]}" if ranks else f"not among the first {_LOOKED_AT}"
            print(f"known target {found}")
            write_sheet(
                sheet, heading=query.title, turns=query.turns, answer=answer, client=client, catalog=CATALOG
            )
            print(f"{elapsed_ms:.1f} ms as seen by the client; contact sheet: {sheet}", flush=True)
