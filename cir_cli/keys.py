"""`cir keys`: API keys for the services."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Annotated

import typer

from cir.channel import digest, new_key
from cir_cli.errors import WrongUsage
from cir_cli.options import Json
from cir_cli.output import print_json

app = typer.Typer(help="Make API keys.", no_args_is_help=True)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CATALOGS = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\*?")


class KeyScope(StrEnum):
    """The permissions of a key."""

    READ = "read"
    WRITE = "write"


@app.callback()
def _keys() -> None:
    pass


@app.command("new")
def new(
    name: Annotated[str, typer.Option("--name", help="Whose key it is; appears in logs.")],
    scope: Annotated[
        KeyScope, typer.Option("--scope", help="read, or write, which includes read.")
    ] = KeyScope.READ,
    catalogs: Annotated[
        list[str] | None,
        typer.Option(
            "--catalog",
            metavar="NAME",
            help="A catalog that the key is for; NAME* for all that begin so; repeatable. Default: all.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make an API key: it is printed once, with the entry for the services' file of keys.

    The entry holds the key's SHA-256, not the key. A name may have several keys: append the new entry, hand
    the new key out, and remove the old entry when nobody uses it any more.
    """
    if not _NAME.fullmatch(name):
        raise WrongUsage(f"the name {name!r} needs up to 64 letters, digits, '.', '_' and '-'")
    for catalog in catalogs or ():
        if not _CATALOGS.fullmatch(catalog):
            raise WrongUsage(
                f"{catalog!r} is no name of a catalog: up to 63 of a-z, 0-9, '-' and '_', and '*' at its end"
            )
    key = new_key()
    if as_json:
        entry = {"name": name, "scope": scope.value, "sha256": digest(key).hex()}
        print_json({"key": key, **entry, "catalogs": list(catalogs or ())})
        return
    print(f"# The key, shown only this once:\n# {key}\n")
    print("# The entry for the file that the setting api_keys_file names (TOML):")
    print(f'[[keys]]\nname = "{name}"\nscope = "{scope.value}"\nsha256 = "{digest(key).hex()}"')
    if catalogs:
        print(f"catalogs = {json.dumps(catalogs)}")  # a list of plain names is the same in TOML
