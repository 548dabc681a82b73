"""`cir up`: all services on this machine."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cir.limits import DEFAULT_COMBINER
from cir_cli.errors import Failure, require
from cir_cli.local.plan import AUTO, LOOPBACK, SHIPPED_MODEL, ServiceSpec, UpOptions, overruled, plan
from cir_cli.local.processes import Stopped, running
from cir_cli.local.readiness import free_ports, own_tls, resolve_ports, web_port
from cir_cli.model_options import (
    InterpolationOption,
    MeanOption,
    ModelConfigOption,
    QuickGeluOption,
    ResizeModeOption,
    StdOption,
    TokenizerOption,
    traits,
)
from cir_cli.options import DEFAULT_DATA, DEFAULT_SERVER, Data

_STOPPED_WHILE_STARTING = 130


def up(
    data: Data = DEFAULT_DATA,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            envvar="CIR_EMBEDDER_ARCHITECTURE",
            help="cir-small, an open_clip architecture, hf-hub:ORG/NAME, or local-dir:PATH of a folder.",
        ),
    ] = SHIPPED_MODEL,
    pretrained: Annotated[
        str,
        typer.Option(
            "--pretrained",
            envvar="CIR_EMBEDDER_PRETRAINED",
            metavar="auto|TAG|FILE|shipped|random[:SEED]",
            help="Weights: an open_clip tag (downloaded once), a local checkpoint, those that come with "
            "cir-small, or random ones. auto: what comes with the model, else the tag openai.",
        ),
    ] = AUTO,
    mean: MeanOption = "",
    std: StdOption = "",
    interpolation: InterpolationOption = "",
    resize_mode: ResizeModeOption = "",
    quick_gelu: QuickGeluOption = "",
    tokenizer: TokenizerOption = "",
    model_config_file: ModelConfigOption = None,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            envvar="CIR_SEARCH_HOST",
            help="Where search and web demo listen: a name or IP address; 0.0.0.0 or :: for all; unix:/path "
            "for search alone.",
        ),
    ] = LOOPBACK,
    port: Annotated[
        int,
        typer.Option(
            "--port",
            envvar="CIR_SEARCH_PORT",
            min=0,
            max=65533,
            help="Port of the search service; 0 picks one.",
        ),
    ] = 50050,
    embedder_port: Annotated[
        int | None,
        typer.Option(
            "--embedder-port", envvar="CIR_EMBEDDER_PORT", min=0, max=65535, help="Default: --port + 1."
        ),
    ] = None,
    combiner_port: Annotated[
        int | None,
        typer.Option(
            "--combiner-port", envvar="CIR_COMBINER_PORT", min=0, max=65535, help="Default: --port + 2."
        ),
    ] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            "--checkpoints",
            envvar="CIR_COMBINER_CHECKPOINT_DIR",
            metavar="DIR",
            help="Folder of Combiner checkpoints to serve.",
        ),
    ] = None,
    default_combiner: Annotated[
        str | None,
        typer.Option(
            "--default-combiner",
            envvar="CIR_SEARCH_DEFAULT_COMBINER",
            help="Combiner of searches that name none. Default: combiner/garments with the shipped model, "
            f"else {DEFAULT_COMBINER}.",
        ),
    ] = None,
    api_keys_file: Annotated[
        Path | None,
        typer.Option(
            "--api-keys-file",
            envvar="CIR_SEARCH_API_KEYS_FILE",
            metavar="FILE",
            help="Keys that the search service asks for; entries: cir keys new. Default: it asks for none.",
        ),
    ] = None,
    web: Annotated[
        bool,
        typer.Option("--web/--no-web", help="Run the web demo too; without a key of its own not with keys."),
    ] = True,
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
    http_port: Annotated[
        int | None,
        typer.Option(
            "--http-port",
            envvar="CIR_HTTP_PORT",
            min=0,
            max=65535,
            help="Run the HTTP/JSON gateway too, on this port; 0 picks a free one.",
        ),
    ] = None,
    start_timeout: Annotated[
        float, typer.Option("--start-timeout", min=1, help="Seconds that the start may take.")
    ] = 600.0,
) -> None:
    """Run embedder, combiner, search and the web demo on this machine until Ctrl-C, with an embedded store.

    Any setting of a service can be given through its environment variable, such as CIR_EMBEDDER_DTYPE; an
    option given here goes first. How the services find each other and the store is decided here alone.
    """
    require("demo", what="cir up")
    ports = resolve_ports(port, embedder_port, combiner_port)
    options = UpOptions(
        data,
        model,
        pretrained,
        host,
        *ports,
        checkpoints,
        default_combiner or "",
        api_keys_file,
        search_tls=own_tls("search_service"),
        traits=traits(mean, std, interpolation, resize_mode, quick_gelu, tokenizer, model_config_file),
    )
    has_keys = bool(api_keys_file or os.environ.get("CIR_SEARCH_API_KEYS"))
    if web and (not has_keys or os.environ.get("CIR_DEMO_SEARCH_API_KEY")):
        options = replace(options, web_port=web_port(web_port_, ports, host))
    if http_port is not None:
        options = replace(options, http_port=http_port or free_ports(1)[0])
    print(f"starting the services of {data} with {model}/{pretrained} ...", flush=True)
    for name in overruled(plan(options), os.environ):
        print(f"NOTE: {name} of the environment is not used: cir up decides it itself, or an option does")
    try:
        with running(options, start_timeout=start_timeout, on_serving=print_serving) as services:
            print(f"  store     {options.store}")
            print(f"  logs      {data / 'logs'}")
            print(f"up; index images with: cir index CATALOG FOLDER{_data_option(data)}")
            search = plan(options)[2].address
            if search != DEFAULT_SERVER:
                print(f"for cir search, items and catalogs: export CIR_SERVER={shlex.quote(search)}")
            print("Ctrl-C stops all", flush=True)
            services.watch()
            print("stopping ...", flush=True)
    except Stopped:
        raise Failure("stopped before all services were up", exit_code=_STOPPED_WHILE_STARTING) from None
    except Failure as error:
        raise Failure(with_advice(str(error), pretrained)) from error
    print("stopped")


def print_serving(spec: ServiceSpec) -> None:
    """Say where a service answers."""
    address = spec.address if spec.health_name else f"http://{spec.address}"
    print(f"  {spec.name:<9} {address}", file=sys.stdout, flush=True)


def with_advice(message: str, pretrained: str) -> str:
    """A failure of the start, with what helps when weights could not be had."""
    if "cannot be had" not in message or pretrained.startswith("random"):
        return message
    return f"{message}; to try things out without trained weights: --pretrained random"


def _data_option(data: Path) -> str:
    return "" if data == DEFAULT_DATA else f" --data {shlex.quote(str(data))}"
