"""Options that several commands share, and the connection that they describe."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, get_args, get_type_hints

import typer

from cir.channel import TlsFiles
from cir.client import Client
from cir.limits import is_text
from cir_cli.completion import complete_catalogs
from cir_cli.errors import Failure, WrongUsage
from cir_cli.suggestions import near_names


@dataclass(frozen=True, slots=True)
class Access:
    """`tls` None connects without encryption."""

    api_key: str = field(default="", repr=False)
    tls: TlsFiles | None = None

    def client(self, address: str, *, timeout: float) -> Client:
        """Return a client of the service at "host:port": search, embedder or combiner.

        Raises:
            OSError: files that cannot be read.
        """
        return Client(
            address, embedder=address, combiner=address, api_key=self.api_key, tls=self.tls, timeout=timeout
        )


DEFAULT_SERVER = "127.0.0.1:50050"
# Titles of groups of options in help texts.
CONNECTION = "How the search service is reached"
EMBEDDER = "How the embedder is reached"
STORE = "Where vectors are kept"
OUTPUT = "What is printed"
DEFAULT_DATA = Path("cir-data")
NOTHING: Mapping[str, Any] = MappingProxyType({})

Server = Annotated[
    str,
    typer.Option(
        "--server",
        envvar="CIR_SERVER",
        metavar="HOST:PORT",
        help="The search service.",
        rich_help_panel=CONNECTION,
    ),
]
ApiKey = Annotated[
    str,
    typer.Option(
        "--api-key",
        envvar="CIR_API_KEY",
        help="API key, where the service asks for one.",
        rich_help_panel=CONNECTION,
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        envvar="CIR_CA_FILE",
        help="Connect with TLS and trust this authority (PEM file).",
        rich_help_panel=CONNECTION,
    ),
]
CertFile = Annotated[
    Path | None,
    typer.Option(
        "--cert-file",
        envvar="CIR_CERT_FILE",
        help="Client certificate for mutual TLS (PEM file).",
        rich_help_panel=CONNECTION,
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        envvar="CIR_KEY_FILE",
        help="Private key of --cert-file (PEM file).",
        rich_help_panel=CONNECTION,
    ),
]
EmbedderAddress = Annotated[
    str,
    typer.Option(
        "--embedder", envvar="CIR_EMBEDDER", metavar="HOST:PORT", help="The embedder; default: cir up's."
    ),
]
EmbedderApiKey = Annotated[
    str,
    typer.Option(
        "--embedder-api-key",
        envvar="CIR_EMBEDDER_API_KEY",
        help="API key, where the embedder asks for one.",
        rich_help_panel=EMBEDDER,
    ),
]
EmbedderCaFile = Annotated[
    Path | None,
    typer.Option(
        "--embedder-ca-file",
        envvar="CIR_EMBEDDER_CA_FILE",
        help="Connect to the embedder with TLS and trust this authority (PEM file).",
        rich_help_panel=EMBEDDER,
    ),
]
EmbedderCertFile = Annotated[
    Path | None,
    typer.Option(
        "--embedder-cert-file",
        envvar="CIR_EMBEDDER_CERT_FILE",
        help="Client certificate for mutual TLS with the embedder (PEM file).",
        rich_help_panel=EMBEDDER,
    ),
]
EmbedderKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--embedder-key-file",
        envvar="CIR_EMBEDDER_KEY_FILE",
        help="Private key of --embedder-cert-file (PEM file).",
        rich_help_panel=EMBEDDER,
    ),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", min=0.001, help="Seconds that a call may take.", rich_help_panel=CONNECTION),
]
Data = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="CIR_DATA",
        metavar="DIR",
        help="Data directory of the local services.",
        rich_help_panel=STORE,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object for programs; errors are one on standard error.",
        rich_help_panel=OUTPUT,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress, only the result.", rich_help_panel=OUTPUT)
]
# The catalog is the first argument of a command. Where nothing is changed it may be left to the profile.
CatalogName = Annotated[
    str, typer.Argument(metavar="CATALOG", help="Name of the catalog.", autocompletion=complete_catalogs)
]
CatalogToRead = Annotated[
    str,
    typer.Argument(
        metavar="CATALOG",
        envvar="CIR_CATALOG",
        help="Name of the catalog; default: the profile's.",
        autocompletion=complete_catalogs,
    ),
]


@dataclass(frozen=True, slots=True)
class Connection:
    """The options that name a search service, as `with_connection` gives them to a command."""

    server: Server = DEFAULT_SERVER
    api_key: ApiKey = ""
    ca_file: CaFile = None
    cert_file: CertFile = None
    key_file: KeyFile = None
    timeout: Timeout = 30.0

    @contextmanager
    def open(self, catalog: str = "", combiner: str = "") -> Iterator[Client]:
        """Yield a client of the service, for a command that names a catalog or a combiner.

        Raises:
            Failure: files that cannot be used.
            NotFound: with names that are spelled alike.
        """
        reached = access(self.api_key, self.ca_file, self.cert_file, self.key_file)
        with (
            reached.client(self.server, timeout=self.timeout) as client,
            near_names(client, catalog, combiner),
        ):
            yield client


def expand(
    command: Callable[..., None],
    name: str,
    parameters: Sequence[inspect.Parameter],
    build: Callable[..., Any],
) -> Callable[..., None]:
    """Return the command with options in place of its parameter `name`, which is made by `build`."""
    signature = inspect.signature(command, eval_str=True)
    expanded: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        expanded += parameters if parameter.name == name else [parameter]
    keywords = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in expanded]

    def run(**given: Any) -> None:
        value = build(**{each.name: given.pop(each.name) for each in parameters})
        command(**given, **{name: value})

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {each.name: each.annotation for each in keywords}
    run.__signature__ = signature.replace(parameters=keywords)  # type: ignore[attr-defined]
    return run


def with_connection(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Connection` in place of its parameter `connection`.

    What such a command gets as text is sent to a service, so bytes that the shell's encoding has no character
    for are refused here, as wrong usage. Paths may hold them.
    """
    hints = get_type_hints(Connection, include_extras=True)
    parameters = [
        inspect.Parameter(
            each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name]
        )
        for each in fields(Connection)
    ]
    return expand(_with_text(command), "connection", parameters, Connection)


def _with_text(command: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        for name, value in kwargs.items():
            for text in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(text, str) and not is_text(text):
                    raise WrongUsage(f"`{name}` is {text!a}, which is no text in UTF-8")
        command(*args, **kwargs)

    return run


def in_groups(
    groups: Mapping[str, Sequence[str]],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Show options of a command in groups in its help text: names of its parameters by the groups' titles.

    Raises:
        TypeError: a name is no option of the command.
    """
    titles = {name: title for title, names in groups.items() for name in names}

    def put(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        if unknown := sorted(titles.keys() - signature.parameters):
            raise TypeError(f"{command.__name__} has no parameter {unknown[0]}")
        parameters = [
            each.replace(annotation=_titled(each.annotation, titles[name])) if name in titles else each
            for name, each in signature.parameters.items()
        ]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return command

    return put


def _titled(annotation: Any, title: str) -> Any:
    kind, *others = get_args(annotation)
    [option] = others
    option = copy(option)
    option.rich_help_panel = title
    return Annotated[kind, option]


def flag_of(field_name: str) -> str:
    """Return the flag of a field of an option model: `projection_dim` is --projection."""
    return "--" + field_name.removesuffix("_path").removesuffix("_dim").replace("_", "-")


def given_options(ctx: typer.Context) -> set[str]:
    """Return the names of the parameters that stand on the command line."""
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def refuse_together(given: Collection[str], with_: str, others: Collection[str], why: str) -> None:
    """Refuse options that have no effect next to another.

    Raises:
        WrongUsage: One of `others` is given, and so is the option `with_`.
    """
    if with_ in given and (both := sorted({*others} & {*given})):
        raise WrongUsage(
            f"{flag_of(both[0])} does not go with {flag_of(with_)}: {why}; leave one of them out"
        )


def refuse_without(given: Collection[str], needed: str, others: Collection[str], why: str) -> None:
    """Refuse options that have no effect without another.

    Raises:
        WrongUsage: One of `others` is given, and the option `needed` is not.
    """
    if needed not in given and (alone := sorted({*others} & {*given})):
        raise WrongUsage(f"{flag_of(alone[0])} {why}; give {flag_of(needed)} too, or leave it out")


def with_model(
    name: str,
    model: type[Any],
    *,
    spelling: Mapping[str, Mapping[str, Any]] = NOTHING,
    without: Mapping[str, str] = NOTHING,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for each field of a dataclass, which it gets as its parameter `name`.

    Defaults are those of the fields; help, minimum and maximum stand in their metadata. A switch that is on
    by default has a flag that turns it off; a flag of a tuple of texts is repeatable. `spelling` says what a
    model does not know, by field: `also`, a second flag, and arguments of `typer.Option`. `without` has the
    fields that are no options, and why.
    """
    hints = get_type_hints(model)
    parameters = [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=each.default,
            annotation=Annotated[
                _REPEATED.get(hints[each.name], hints[each.name]),
                _option_of(each, **spelling.get(each.name, {})),
            ],
        )
        for each in fields(model)
        if each.name not in without
    ]

    def build(**given: Any) -> Any:
        repeated = {key: tuple(value) for key, value in given.items() if isinstance(value, list)}
        try:
            return model(**{**given, **repeated})
        except ValueError as error:
            raise WrongUsage(str(error)) from error

    return lambda command: expand(command, name, parameters, build)


# Typer reads a tuple as an option with several arguments.
_REPEATED = {tuple[str, ...]: list[str]}


def _option_of(each: Field[Any], *, also: str = "", **more: Any) -> Any:
    flag = flag_of(each.name)
    on = f"{flag}/--no-{flag.removeprefix('--')}" if each.default is True else flag
    bounds = {key: each.metadata[key] for key in ("min", "max") if key in each.metadata}
    help_text = flags_in(each.metadata["help"])
    return typer.Option(on, *([also] if also else []), help=help_text, **bounds, **more)


def flags_in(help_text: str) -> str:
    """Return a help text with flags in place of the fields that it names in backquotes."""
    return re.sub(r"`(\w+)`", lambda match: flag_of(match[1]), help_text)


def access(
    api_key: str, ca_file: Path | None, cert_file: Path | None, key_file: Path | None, *, prefix: str = "--"
) -> Access:
    """Return how a service is reached, from options whose names begin with `prefix`.

    Raises `Failure` for files that cannot be read and options that go together.
    """
    if (cert_file is None) != (key_file is None):
        raise WrongUsage(f"{prefix}cert-file and {prefix}key-file go together; give both or neither")
    if cert_file is not None and ca_file is None:
        raise WrongUsage(f"{prefix}cert-file needs TLS; give {prefix}ca-file as well")
    for name, path in (("ca-file", ca_file), ("cert-file", cert_file), ("key-file", key_file)):
        try:
            if path is not None:
                path.read_bytes()
        except OSError as error:
            raise Failure(f"{prefix}{name} {path} cannot be read: {error.strerror or error}") from error
    return Access(api_key, TlsFiles(ca_file, cert_file, key_file) if ca_file is not None else None)
