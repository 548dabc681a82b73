"""`cir config`: the profile that other commands have their defaults from."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from cir_cli.local.up_file import search_here
from cir_cli.options import DEFAULT_SERVER, Json
from cir_cli.output import console, print_json, table
from cir_cli.profiles import KEYS, SECRETS, Chosen, config_file, variable

app = typer.Typer(help="Show the profile that options have their defaults from.", no_args_is_help=True)


@app.callback()
def _config() -> None:
    pass


@app.command("show")
def show(context: typer.Context, as_json: Json = False) -> None:
    """Show the server and the profile in use, and what variables put in their place; keys are masked.

    Profiles are tables [profiles.NAME] of the file that CIR_CONFIG names; without it of cir/config.toml in
    XDG_CONFIG_HOME, or in ~/.config.
    """
    chosen = Chosen(context.find_root().params.get("profile"))
    rows: list[tuple[str, str, str]] = []
    for key in KEYS:
        value, origin = os.environ.get(variable(key)), variable(key)
        if not value:
            value, origin = chosen.values.get(key), "profile"
        if not value and key == "server":
            value, origin = _server(chosen.data({}))
        if value:
            rows.append((key, _masked(value) if key in SECRETS else value, origin))
    known = list(chosen.profiles)
    if as_json:
        settings = {key: {"value": value, "from": origin} for key, value, origin in rows}
        print_json({"file": config_file(), "profile": chosen.name, "profiles": known, "settings": settings})
        return
    print(f"file: {config_file() or 'none, without a home'}{'' if known else ' (not there, or empty)'}")
    if known:
        print(f"profile: {chosen.name}{'' if chosen.values else ' (not there)'}; of: {', '.join(known)}")
    if rows:
        console().print(table(("key", "value", "from"), rows))


def _server(data: Path) -> tuple[str, str]:
    """Return the server of commands that nobody names one to, and where it comes from."""
    here = search_here(data)
    return (here, f"cir up on {os.path.abspath(data)}") if here else (DEFAULT_SERVER, "default")


def _masked(value: str) -> str:
    """Return as much of a key as tells it from others."""
    return f"{value[:6]}..." if len(value) >= 24 else "..."
