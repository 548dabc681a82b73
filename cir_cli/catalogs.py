"""`cir catalogs`: catalogs and their versions."""

from __future__ import annotations

from typing import Annotated

import typer

from cir.models import Version
from cir_cli.errors import Failure
from cir_cli.options import Connection, Json, with_connection
from cir_cli.output import console, print_json, table

app = typer.Typer(
    help="List catalogs; show, publish, roll back and delete their versions.", invoke_without_command=True
)

Name = Annotated[str, typer.Argument(metavar="CATALOG", help="Name of the catalog.")]


@app.callback()
@with_connection
def list_catalogs(
    context: typer.Context,
    as_json: Json = False,
    *,
    connection: Connection,
) -> None:
    """List catalogs; show, publish, roll back and delete their versions."""
    if context.invoked_subcommand is not None:
        return
    with connection.open() as client:
        catalogs = client.catalogs()
    if as_json:
        print_json(catalogs)
    elif not catalogs:
        print("no catalogs yet; make one with: cir index CATALOG FOLDER")
    else:
        rows = [
            (catalog.name, *(_version_cells(catalog.published) if catalog.published else ("-",) * 4))
            for catalog in catalogs
        ]
        console().print(table(("catalog", "version", "items", "model", "fields"), rows, right=("items",)))


@app.command()
@with_connection
def versions(
    name: Name,
    as_json: Json = False,
    *,
    connection: Connection,
) -> None:
    """List the versions of a catalog, newest first."""
    with connection.open() as client:
        found = client.versions(name)
    if as_json:
        print_json(found)
        return
    rows = [
        (*_version_cells(version), version.state, version.created.strftime("%Y-%m-%d %H:%M:%SZ"))
        for version in found
    ]
    columns = ("version", "items", "model", "fields", "state", "created")
    console().print(table(columns, rows, right=("items",)))


@app.command()
@with_connection
def publish(
    name: Name,
    version: Annotated[str, typer.Argument(help="Version to search from now on.")],
    allow_model_change: Annotated[
        bool,
        typer.Option("--allow-model-change", help="Even when its model is not the one the embedder serves."),
    ] = False,
    *,
    connection: Connection,
) -> None:
    """Make a finished version the one that is searched."""
    with connection.open() as client:
        client.publish(name, version, allow_model_change=allow_model_change)
    print(f"{name}: version {version} is published")


@app.command()
@with_connection
def rollback(
    name: Name,
    *,
    connection: Connection,
) -> None:
    """Publish again what was published before."""
    with connection.open() as client:
        catalog = client.rollback(name)
    print(f"{name}: version {catalog.published.name if catalog.published else '-'} is published again")


@app.command()
@with_connection
def delete(
    name: Name,
    version: Annotated[
        str, typer.Option("--version", help="Delete this version, which must not be published.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Delete a whole catalog without asking.")] = False,
    *,
    connection: Connection,
) -> None:
    """Delete a catalog with all its versions, or one version. There is no way back."""
    with connection.open() as client:
        if version:
            client.delete_version(name, version)
            print(f"{name}: version {version} is deleted")
            return
        if not yes and not typer.confirm(f"Delete the catalog {name} with all its versions?"):
            raise Failure(f"{name} was not deleted")
        client.delete_catalog(name)
    print(f"{name} is deleted")


def _version_cells(version: Version) -> tuple[str, str, str, str]:
    model = version.model.get("architecture") or version.model_fingerprint[:12]
    if pretrained := version.model.get("pretrained"):
        model = f"{model}/{pretrained}"
    fields = " ".join(f"{field}:{kind}" for field, kind in version.schema.items())
    return version.name, str(version.item_count), model, fields
