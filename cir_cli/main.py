"""The `cir` command: exit code 0 only on success, and errors as one line on standard error."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

# Typer has no public name for it.
from typer._click.globals import get_current_context
from typer.core import TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command

from cir.errors import CirError, Unavailable
from cir.extras import SERVICES
from cir_cli import (
    adapt,
    catalog_copies,
    catalogs,
    compare,
    config,
    datasets,
    demo,
    doctor,
    embed,
    evaluate,
    features,
    garments,
    index,
    items,
    keys,
    models,
    search,
    train,
    up,
)
from cir_cli.errors import INTERRUPTED, Failure
from cir_cli.groups import ListsByDefault
from cir_cli.local.up_file import search_here
from cir_cli.profiles import KEYS, Chosen


class _Defaults(dict[str, Any]):
    """Defaults of a command's options from the profile, or those of all commands below a group."""

    def __init__(self, command: Any, chosen: Chosen) -> None:
        super().__init__()
        self._command, self._chosen = command, chosen

    def get(self, name: str, default: Any = None) -> Any:
        below = getattr(self._command, "commands", None)
        if below is not None:
            return _Defaults(below[name], self._chosen) if name in below else default
        if name not in KEYS:
            return default
        context = get_current_context()
        try:
            value = self._chosen.value(name, context.params)
            if value is None and name == "server":
                return search_here(self._chosen.data(context.params)) or default
            return value
        except Failure:
            if context.resilient_parsing:
                return default  # the shell asks for completions
            raise


class _Cir(TyperGroup):
    """The whole command; --profile says where options have their defaults from."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        context = super().make_context(*args, **kwargs)
        context.default_map = _Defaults(self, Chosen(context.params.get("profile")))
        return context


app = typer.Typer(
    name="cir",
    cls=_Cir,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Composed image retrieval: find what looks like this image, with the change a text describes.",
)
app.command("up")(up.up)
app.command("index")(index.index)
app.command("search")(search.search)
catalog_copies.add_to(catalogs.app)
app.add_typer(catalogs.app, name="catalogs")
app.add_typer(items.app, name="items")
app.command("embed")(embed.embed)
app.command("combine")(embed.combine)
app.command("doctor")(doctor.doctor)
app.add_typer(config.app, name="config")
app.add_typer(keys.app, name="keys")
app.add_typer(datasets.app, name="dataset")
app.add_typer(garments.app, name="garments")
app.add_typer(models.app, name="models")
app.add_typer(features.app, name="features")
app.command("train")(train.train)
app.command("adapt")(adapt.adapt)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("cirr-submission")(compare.cirr_submission)
app.command("circo-submission")(compare.circo_submission)
app.command("demo")(demo.demo)


def _print_version(asked: bool) -> None:
    if asked:
        try:
            print(version(SERVICES))
        except PackageNotFoundError:
            print("unknown")
        raise typer.Exit


@app.callback()
def _cir(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            envvar="CIR_PROFILE",
            metavar="NAME",
            help="Profile of the file of profiles that options have their defaults from (cir config show); "
            "default: the one called default, if there is one.",
        ),
    ] = None,
) -> None:
    del profile  # read by _Cir, before there is a command


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and end the process."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal of another encoding shows what it lacks as an escape.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    fail = _fail_in_json if "--json" in arguments else _fail
    try:
        result = app(args=list(arguments), prog_name="cir", standalone_mode=False)
    except TyperException as error:
        text = _usage_text(error)
        return fail(text, error.exit_code) if text else error.exit_code  # else help was shown
    except CirError as error:
        return fail(in_options(error, flags_of(arguments)), 1, error)
    except Failure as error:
        return fail(spell_flags(str(error), flags_of(arguments)), error.exit_code)
    except BrokenPipeError:
        sys.stdout = None  # the reader is gone: nothing is left to flush
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return fail("interrupted", INTERRUPTED)
    except Exception as error:
        return fail(f"internal error ({type(error).__name__}: {error}); please report it", 70)
    if result == INTERRUPTED:  # Typer's word for a KeyboardInterrupt
        return fail("interrupted", INTERRUPTED)
    return result if isinstance(result, int) else 0


def _usage_text(error: TyperException) -> str:
    near = getattr(error, "possibilities", None)
    if near:
        return f"{error.message}. Did you mean {', '.join(map(repr, near))}?"
    return error.format_message()


def flags_of(arguments: Sequence[str]) -> dict[str, str]:
    """Return the flags of the command that the arguments call, by the names of their parameters."""
    command: Any = get_command(app)
    for argument in arguments:
        below = getattr(command, "commands", {})
        if argument not in below:
            break
        command = below[argument]
    if isinstance(command, ListsByDefault):
        command = command.commands["list"]
    flags: dict[str, str] = {}
    for parameter in command.params:
        if long := [option for option in parameter.opts if option.startswith("--")]:
            flags[parameter.name] = long[0]
            flags[long[0].removeprefix("--").replace("-", "_")] = long[0]
    return flags


def spell_flags(message: str, flags: Mapping[str, str]) -> str:
    """Return an error message with flags in place of the parameters that it names in backquotes.

    A library names its own parameters (`rejects_path`, `projection_dim`, `allow_hosts`); a flag may leave out
    their ending. Names that are not an option of the command stay as they are.
    """

    def flag(match: re.Match[str]) -> str:
        name = match[1]
        names = (name, name.removesuffix("_path"), name.removesuffix("_dim"), name.removesuffix("s"))
        return next((flags[known] for known in names if known in flags), match[0])

    return re.sub(r"`(\w+)`", flag, message)


def in_options(error: CirError, flags: Mapping[str, str]) -> str:
    """Return the message of a call that failed, with the options of the command that it is about."""
    message = error.message
    if error.field == "page_size" and "limit" in flags:
        message = re.sub(r"\bpage_size\b", flags["limit"], message)
    if error.reason == "KEY_MISSING" and "api_key" in flags:
        message += "; on the command line: --api-key or CIR_API_KEY"
    if isinstance(error, Unavailable) and "server" in flags and message.startswith("cannot reach"):
        message += "; --server or CIR_SERVER says where it is, and cir up starts one here"
    return message


def _fail(message: str, exit_code: int, _error: CirError | None = None) -> int:
    print(f"cir: {' '.join(message.split())}", file=sys.stderr)
    return exit_code


def _fail_in_json(message: str, exit_code: int, error: CirError | None = None) -> int:
    """Print an error for programs; what only a service can say of it is null where none did."""
    facts = {
        "message": " ".join(message.split()),
        "exit_code": exit_code,
        "code": error.code.name if error else None,
        "reason": (error.reason if error else None) or None,
        "field": (error.field if error else None) or None,
        "retry_after": error.retry_after if error else None,
        "request_id": (error.request_id if error else None) or None,
    }
    print(json.dumps({"error": facts}, ensure_ascii=False), file=sys.stderr)
    return exit_code
