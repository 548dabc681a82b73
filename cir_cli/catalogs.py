"""`cir catalogs`: catalogs and their versions."""

from __future__ import annotations

from typing import Annotated

import typer

from cir.models import Catalog, Version
from cir_cli.errors import Failure
from cir_cli.groups import ListsByDefault
from cir_cli.options import CatalogName, CatalogToRead, Connection, Json, with_connection
from cir_cli.output import check_can_ask, console, print_json, table

app = typer.Typer(
    cls=ListsByDefault,
    help="List catalogs; list, publish, roll back, copy and delete their versions.",
)


@app.command("list")
@with_connection
def list_(
    as_json: Json = False,
    *,
    connection: Connection,
) -> None:
    """List the catalogs; `cir catalogs` alone does so as well."""
    with connection.open() as client:
        catalogs = client.catalogs()
    if as_json:
        print_json({"catalogs": catalogs})
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
    catalog: CatalogToRead,
    as_json: Json = False,
    *,
    connection: Connection,
) -> None:
    """List the versions of a catalog, newest first."""
    with connection.open(catalog) as client:
        found = client.versions(catalog)
    if as_json:
        print_json({"catalog": catalog, "versions": found})
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
    name: CatalogName,
    version: Annotated[str, typer.Argument(help="Version to search from now on.")],
    allow_model_change: Annotated[
        bool,
        typer.Option("--allow-model-change", help="Even when its model is not the one the embedder serves."),
    ] = False,
    as_json: Json = False,
    *,
    connection: Connection,
) -> None:
    """Make a finished version the one that is searched."""
    with connection.open(name) as client:
        catalog = client.publish(name, version, allow_model_change=allow_model_change)
    _print_published(catalog, "published", as_json=as_json)


@app.command()
@with_connection
def rollback(
    name: CatalogName,
    as_json: Json = False,
    *,
    connection: Connection,
) -> None:
    """Publish again what was published before."""
    with connection.open(name) as client:
        catalog = client.rollback(name)
    _print_published(catalog, "published again", as_json=as_json)


def _print_published(catalog: Catalog, state: str, *, as_json: bool) -> None:
    published = catalog.published.name if catalog.published else ""
    if as_json:
        print_json({"catalog": catalog.name, "published": published})
    else:
        print(f"{catalog.name}: version {published or '-'} is {state}")


@app.command()
@with_connection
def delete(
    name: CatalogName,
    version: Annotated[
        str, typer.Option("--version", help="Delete this version, which must not be published.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Delete a whole catalog without asking.")] = False,
    as_json: Json = False,
    *,
    connection: Connection,
) -> None:
    """Delete a catalog with all its versions, or one version. There is no way back."""
    if not (yes or version):
        check_can_ask("delete a whole catalog", as_json=as_json)
    with connection.open(name) as client:
        if version:
            client.delete_version(name, version)
        else:
            if not yes and not typer.confirm(f"Delete the catalog {name} with all its versions?"):
                raise Failure(f"{name} was not deleted")
            client.delete_catalog(name)
    if as_json:
        print_json({"catalog": name, "version": version, "deleted": True})
    else:
        print(f"{name}: version {version} is deleted" if version else f"{name} is deleted")


def _version_cells(version: Version) -> tuple[str, str, str, str]:
    model = version.model.get("architecture") or version.model_fingerprint[:12]
    if pretrained := version.model.get("pretrained"):
        model = f"{model}/{pretrained}"
    fields = " ".join(f"{field}:{kind}" for field, kind in version.schema.items())
    return version.name, str(version.item_count), model, fields
