"""The `cir` command: exit code 0 only on success, and errors as one line on standard error."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from cir.errors import CirError
from cir_cli import (
    adapt,
    catalog_copies,
    catalogs,
    compare,
    datasets,
    demo,
    doctor,
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
from cir_cli.errors import DISTRIBUTION, Failure

_INTERRUPTED = 130

app = typer.Typer(
    name="cir",
    no_args_is_help=True,
    add_completion=False,
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
app.command("doctor")(doctor.doctor)
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
            print(version(DISTRIBUTION))
        except PackageNotFoundError:
            print("unknown")
        raise typer.Exit


@app.callback()
def _cir(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and end the process."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal of another encoding shows what it lacks as an escape.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    try:
        result = app(args=list(arguments), prog_name="cir", standalone_mode=False)
    except TyperException as error:
        if not arguments:
            return _INTERRUPTED if isinstance(error, KeyboardInterrupt) else 2  # help was shown
        return _fail(error.format_message() or "wrong usage", error.exit_code)
    except CirError as error:
        return _fail(error.message, 1)
    except Failure as error:
        return _fail(spell_flags(str(error), flags_of(arguments)), error.exit_code)
    except BrokenPipeError:
        sys.stdout = None  # the reader is gone: nothing is left to flush
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", _INTERRUPTED)
    except Exception as error:
        return _fail(f"internal error ({type(error).__name__}: {error}); please report it", 70)
    return result if isinstance(result, int) else 0


def flags_of(arguments: Sequence[str]) -> dict[str, str]:
    """Return the flags of the command that the arguments call, by the names of their parameters."""
    command: Any = get_command(app)
    for argument in arguments:
        below = getattr(command, "commands", {})
        if argument not in below:
            break
        command = below[argument]
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


def _fail(message: str, exit_code: int) -> int:
    print(f"cir: {' '.join(message.split())}", file=sys.stderr)
    return exit_code
