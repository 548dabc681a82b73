"""`cir up`: all services on this machine."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cir.limits import DEFAULT_COMBINER
from cir_cli.errors import INTERRUPTED, Failure, require
from cir_cli.local.plan import AUTO, LOOPBACK, SHIPPED_MODEL, ServiceSpec, UpOptions, plan
from cir_cli.local.processes import Stopped, running
from cir_cli.local.readiness import free_ports, own_tls, resolve_ports, web_port
from cir_cli.local.variables import unused_variables
from cir_cli.model_options import (
    MODEL,
    Dtype,
    InterpolationOption,
    MeanOption,
    ModelConfigOption,
    QuickGeluOption,
    ResizeModeOption,
    StdOption,
    TokenizerOption,
    traits,
)
from cir_cli.options import DEFAULT_DATA, DEFAULT_SERVER, OUTPUT, Data, in_groups
from cir_cli.output import print_event


@in_groups(
    {
        MODEL: ("model", "pretrained", "dtype"),
        "Where services listen": (
            "host", "port", "embedder_port", "combiner_port", "web", "web_port_", "http_port",
        ),
        "What is served": ("data", "checkpoints", "default_combiner", "api_keys_file", "start_timeout"),
    }
)  # fmt: skip
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
    dtype: Annotated[
        Dtype | None,
        typer.Option(
            "--dtype",
            envvar="CIR_EMBEDDER_DTYPE",
            help="Type to compute in; default: auto, which is bfloat16 where the hardware multiplies it, "
            "else float32.",
        ),
    ] = None,
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
            help="Folder of further Combiner checkpoints to serve.",
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
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print a JSON object a line: starting, serving (of each service), up, restarted, stopped.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
) -> None:
    """Run embedder, combiner, search and the web demo on this machine until Ctrl-C, with an embedded store.

    Any setting of a service can be given through its environment variable, such as CIR_EMBEDDER_THREADS; an
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
        model_settings=traits(mean, std, interpolation, resize_mode, quick_gelu, tokenizer, model_config_file)
        | ({} if dtype is None else {"dtype": dtype.value}),
    )
    has_keys = bool(api_keys_file or os.environ.get("CIR_SEARCH_API_KEYS"))
    if web and (not has_keys or os.environ.get("CIR_DEMO_SEARCH_API_KEY")):
        options = replace(options, web_port=web_port(web_port_, ports, host))
    without_web = web and not options.web_port
    if http_port is not None:
        options = replace(options, http_port=http_port or free_ports(1)[0])
    tell = _InJson() if as_json else _InWords()
    tell.starting(options, unused_variables(plan(options), os.environ), without_web=without_web)
    try:
        with running(options, start_timeout=start_timeout, on_serving=tell.serving) as services:
            tell.up(options, asks_for_keys=has_keys)
            services.watch(tell.restarted)
            tell.stopping()
    except Stopped:
        raise Failure("stopped before all services were up", exit_code=INTERRUPTED) from None
    except Failure as error:
        raise Failure(with_advice(str(error), pretrained), exit_code=error.exit_code) from error
    tell.stopped()


def print_serving(spec: ServiceSpec) -> None:
    """Say where a service answers."""
    print(f"  {spec.name:<9} {_url(spec)}", flush=True)


def _url(spec: ServiceSpec) -> str:
    return spec.address if spec.health_name else f"http://{spec.address}"


def _tls_files(options: UpOptions) -> dict[str, Path]:
    """Return the files that a client on this machine needs, by the names of its options; none without TLS."""
    tls = options.search_tls
    files = {"ca_file": tls.ca, "cert_file": tls.certificate, "key_file": tls.key} if tls else {}
    return {name: path.resolve() for name, path in files.items() if path}


class _InWords:
    """Tells a person what becomes of the services."""

    def starting(self, options: UpOptions, unused: Mapping[str, str], *, without_web: bool) -> None:
        model = f"{options.model}/{options.pretrained}"
        print(f"starting the services of {options.data} with {model} ...", flush=True)
        for name, why in unused.items():
            print(f"NOTE: {name} of the environment {why}")
        if without_web:
            print("NOTE: no web demo: search asks for keys; CIR_DEMO_SEARCH_API_KEY gives the demo its own")

    def serving(self, spec: ServiceSpec) -> None:
        print_serving(spec)

    def up(self, options: UpOptions, *, asks_for_keys: bool) -> None:
        print(f"  store     {options.store}")
        print(f"  logs      {options.data / 'logs'}")
        print(f"up; index images with: cir index CATALOG FOLDER{_data_option(options.data)}")
        search, tls = plan(options)[2].address, _tls_files(options)
        if search != DEFAULT_SERVER or tls:
            needed = {"CIR_SERVER": search, **{f"CIR_{name.upper()}": path for name, path in tls.items()}}
            exports = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in needed.items())
            print(f"for cir search, items and catalogs: export {exports}")
        if asks_for_keys:
            print("search asks for keys; for cir search, items and catalogs: export CIR_API_KEY=YOUR_KEY")
        print("Ctrl-C stops all", flush=True)

    def restarted(self, why: str) -> None:
        print(why, flush=True)

    def stopping(self) -> None:
        print("stopping ...", flush=True)

    def stopped(self) -> None:
        print("stopped")


class _InJson(_InWords):
    """Tells a program, by one object a line."""

    def starting(self, options: UpOptions, unused: Mapping[str, str], *, without_web: bool) -> None:
        facts = {"data": options.data, "model": options.model, "pretrained": options.pretrained}
        print_event("starting", **facts, unused_variables=list(unused), without_web=without_web)

    def serving(self, spec: ServiceSpec) -> None:
        print_event("serving", service=spec.name, address=_url(spec))

    def up(self, options: UpOptions, *, asks_for_keys: bool) -> None:
        addresses = {spec.name: _url(spec) for spec in plan(options)}
        facts = {"store": options.store, "logs": options.data / "logs", "asks_for_keys": asks_for_keys}
        facts |= {"tls": _tls_files(options) or None}
        print_event("up", addresses=addresses, **facts)

    def restarted(self, why: str) -> None:
        print_event("restarted", why=why)

    def stopping(self) -> None:
        print_event("stopping")

    def stopped(self) -> None:
        print_event("stopped")


def with_advice(message: str, pretrained: str) -> str:
    """A failure of the start, with what helps when weights could not be had, and with options of cir up."""
    message = message.replace("as --architecture", "as --model")
    if "cannot be had" not in message or pretrained.startswith("random"):
        return message
    return f"{message}; to try things out without trained weights: --pretrained random"


def _data_option(data: Path) -> str:
    return "" if data == DEFAULT_DATA else f" --data {shlex.quote(str(data))}"
