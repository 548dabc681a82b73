"""The plan of what runs on this machine: which processes, with which settings, at which addresses. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cir.address import Address, Host, Listener, parse_listener
from cir.channel import TlsFiles
from cir.limits import DEFAULT_COMBINER

LOOPBACK = "127.0.0.1"
# The CLIP that comes with the software, and the Combiner that was trained over it.
SHIPPED_MODEL, SHIPPED = "cir-small", "shipped"
# Weights that come with a model, which are the shipped ones for the shipped CLIP.
AUTO = "auto"
SHIPPED_COMBINER = "combiner/garments"


def adapted_folder(data: Path) -> Path:
    """Return the folder of a data directory where `cir adapt` puts checkpoints, and which `cir up` serves."""
    return data / "combiners"


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The request made to `cir up`. Embedder and combiner listen on loopback only; ports are final.

    `host` is that of the search service, and of the web demo and the HTTP gateway unless it is a Unix socket.

    With a `web_port` the web demo is among them, with an `http_port` the HTTP gateway; `known_queries` are
    triplet manifests for the demo, and with `search_tls` both reach the search service over TLS.
    Next to the shipped CLIP the shipped Combiner is served, besides those of `checkpoints`. An empty
    `default_combiner` is that Combiner where it is served, else `cir.limits.DEFAULT_COMBINER`.
    `model_settings` are further settings of the embedder, by name.
    """

    data: Path
    model: str
    pretrained: str
    host: str
    port: int
    embedder_port: int
    combiner_port: int
    checkpoints: Path | None = None
    default_combiner: str = ""
    api_keys_file: Path | None = None
    web_port: int = 0
    http_port: int = 0
    known_queries: tuple[Path, ...] = ()
    search_tls: TlsFiles | None = None
    model_settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_shipped_combiner(self) -> bool:
        """True where the model is the one that the shipped Combiner was trained for."""
        return self.model == SHIPPED_MODEL and self.pretrained in (AUTO, SHIPPED)

    @property
    def combiner(self) -> str:
        """Combiner of searches that name none."""
        if self.default_combiner:
            return self.default_combiner
        return SHIPPED_COMBINER if self.has_shipped_combiner else DEFAULT_COMBINER

    @property
    def store(self) -> str:
        """URL of the embedded vector store."""
        # Only here: commands that start nothing need no store.
        from vector_store.edge import folder_url

        return folder_url((self.data / "store").resolve())


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One process: `python -m module`, its environment, where it answers, and its name for health checks.

    One without such a name answers over HTTP. `defaults` are variables that give way to those of the caller's
    environment.
    """

    name: str
    module: str
    address: str
    health_name: str
    environment: dict[str, str]
    defaults: dict[str, str] = field(default_factory=dict)


def listeners(options: UpOptions) -> tuple[Listener, ...]:
    """Return where each process of the plan listens.

    Raises:
        InvalidArgument: `host` names no host.
    """
    here = Host(LOOPBACK)
    search = parse_listener(options.host, options.port)
    web = search.host if isinstance(search, Address) else here
    return (
        Address(here, options.embedder_port),
        Address(here, options.combiner_port),
        search,
        *(Address(web, port) for port in (options.web_port, options.http_port) if port),
    )


def plan(options: UpOptions) -> tuple[ServiceSpec, ...]:
    """Embedder, combiner, search, web demo and HTTP gateway where they are wanted, as they are shown."""
    embedder, combiner, search, *others = (str(each.dialled) for each in listeners(options))
    keys = {"API_KEYS_FILE": str(options.api_keys_file.resolve())} if options.api_keys_file else {}
    checkpoints = {"CHECKPOINT_DIR": str(options.checkpoints.resolve())} if options.checkpoints else {}
    shipped = {"SHIPPED_CHECKPOINTS": "true"} if options.has_shipped_combiner else {}
    wanted = ((options.web_port, _web), (options.http_port, _http))
    makers = [make for port, make in wanted if port]
    over_http = [make(options, address, search) for make, address in zip(makers, others, strict=True)]
    return (
        ServiceSpec(
            "embedder",
            "embedder_service",
            embedder,
            "cir.embedder.v1.EmbedderService",
            _environment(
                "CIR_EMBEDDER_",
                HOST=LOOPBACK,
                PORT=str(options.embedder_port),
                ARCHITECTURE=options.model,
                PRETRAINED=options.pretrained,
                **{name.upper(): value for name, value in options.model_settings.items()},
            ),
            _defaults("CIR_EMBEDDER_"),
        ),
        ServiceSpec(
            "combiner",
            "combiner_service",
            combiner,
            "cir.combiner.v1.CombinerService",
            _environment(
                "CIR_COMBINER_",
                HOST=LOOPBACK,
                PORT=str(options.combiner_port),
                DEFAULT_COMBINER=options.combiner,
                ADAPTED_CHECKPOINT_DIR=str(adapted_folder(options.data).resolve()),
                **checkpoints,
                **shipped,
            ),
            _defaults("CIR_COMBINER_"),
        ),
        ServiceSpec(
            "search",
            "search_service",
            search,
            "cir.search.v1.SearchService",
            _environment(
                "CIR_SEARCH_",
                HOST=options.host,
                PORT=str(options.port),
                EMBEDDER=embedder,
                COMBINER=combiner,
                STORE=options.store,
                DEFAULT_COMBINER=options.combiner,
                **keys,
            ),
            _defaults("CIR_SEARCH_"),
        ),
        *over_http,
    )


def _web(options: UpOptions, address: str, search: str) -> ServiceSpec:
    return ServiceSpec(
        "web",
        "web_demo",
        address,
        "",
        _environment(
            "CIR_DEMO_",
            HOST=LOOPBACK if search.startswith("unix") else options.host,
            PORT=str(options.web_port),
            SEARCH=search,
            **_known_queries(options.known_queries),
            **_search_tls(options.search_tls),
        ),
        _defaults("CIR_DEMO_", DATA=str((options.data / "web").resolve())),
    )


def _http(options: UpOptions, address: str, search: str) -> ServiceSpec:
    tls = _search_tls(options.search_tls)
    return ServiceSpec(
        "http",
        "http_gateway",
        address,
        "",
        _environment(
            "CIR_HTTP_",
            HOST=LOOPBACK if search.startswith("unix") else options.host,
            PORT=str(options.http_port),
            SEARCH=search,
            # Over TLS each service may have an authority of its own; the gateway knows that of search.
            **({} if tls else {"EMBEDDER": str(Address(Host(LOOPBACK), options.embedder_port))}),
            **{name.removeprefix("SEARCH_"): value for name, value in tls.items()},
        ),
        _defaults("CIR_HTTP_"),
    )


def _known_queries(manifests: tuple[Path, ...]) -> dict[str, str]:
    # Without any of our own, those of the environment stand.
    return {"KNOWN_QUERIES": json.dumps([str(path.resolve()) for path in manifests])} if manifests else {}


def _search_tls(tls: TlsFiles | None) -> dict[str, str]:
    files = {"CA": tls.ca, "CERTIFICATE": tls.certificate, "KEY": tls.key} if tls else {}
    return {f"SEARCH_{name}": str(path.resolve()) for name, path in files.items() if path}


def _environment(prefix: str, **settings: str) -> dict[str, str]:
    return {f"{prefix}{name}": value for name, value in settings.items()}


def _defaults(prefix: str, **settings: str) -> dict[str, str]:
    return _environment(prefix, LOG_FORMAT="console", SHUTDOWN_GRACE_SECONDS="5", **settings)
