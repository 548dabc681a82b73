"""`cir items`: the items of a catalog."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cir.client import Client
from cir.errors import NotFound
from cir.filters import Filter
from cir.items import ItemUpdate, ItemWrite
from cir.models import Item, ItemError, Items
from cir_cli.errors import Failure, WrongUsage
from cir_cli.groups import ListsWhatIsNamed, taken_for_argument
from cir_cli.options import CatalogName, CatalogToRead, Connection, Json, in_groups, with_connection
from cir_cli.output import check_can_ask, console, payload_text, print_json, table
from cir_cli.parse import parse_fields, parse_filters, parse_payload
from service_runtime.counted import counted

_PAGE = 1000
_ITEM = "The item"


app = typer.Typer(
    cls=ListsWhatIsNamed,
    help="List, write, change and delete items of a catalog; `cir items CATALOG [ID]...` lists.",
)

ItemId = Annotated[str, typer.Argument(metavar="ID", help="Id of the item.")]
Filters = Annotated[
    list[str] | None,
    typer.Option("--filter", "-f", metavar="FIELD=VALUE", help="As in `cir search`; repeatable."),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="FIELD=VALUE", help="A payload field; ONE,TWO is a list. Repeatable."
    ),
]
Payload = Annotated[
    str | None, typer.Option("--payload", metavar="JSON", help="The whole payload, as a JSON object.")
]
ImageLocation = Annotated[
    str | None,
    typer.Option("--image-location", metavar="TEXT", help="Where the image is, as it is stored."),
]


@app.command("list")
@with_connection
def list_(
    catalog: CatalogToRead,
    item_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="List these items alone.")
    ] = None,
    filters: Filters = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Items to list.")] = 20,
    page_token: Annotated[
        str,
        typer.Option(
            "--page-token",
            metavar="TOKEN",
            help="Go on after an earlier answer with the same filters: its next_page_token.",
        ),
    ] = "",
    as_json: Json = False,
    *,
    connection: Connection,
) -> None:
    """List items of a catalog, or those of the given ids. The word `list` may be left out."""
    if item_ids and (filters or page_token):
        raise WrongUsage("ids name the items to list; leave --filter and --page-token out, or the ids")
    found: Sequence[Item]
    missing: Sequence[str] = ()
    after = ""
    with connection.open(catalog) as client:
        try:
            if item_ids:
                asked = _by_id(client, catalog, list(dict.fromkeys(item_ids)))
                found, missing = asked.found, asked.missing
            else:
                where = parse_filters(filters or [], _schema(client, catalog) if filters else {})
                found, after = _first_items(client, catalog, where, limit, page_token)
        except NotFound as error:
            if item_ids and error.reason == "CATALOG_NOT_FOUND" and taken_for_argument():
                error.message += f"; `cir items` has no command {catalog!r} either"
            raise
        schema = {} if as_json or not found else _schema(client, catalog)
    if as_json:
        items = [_machine_readable(item) for item in found]
        print_json({"catalog": catalog, "items": items, "missing": missing, "next_page_token": after})
    elif found or not missing:
        rows = [(item.id, payload_text(item.payload, schema), item.image) for item in found]
        console().print(table(("id", "payload", "image"), rows))
        if after:
            print(f"more: --page-token {after}")
    if missing:
        raise Failure(f"{catalog} has no item {', '.join(map(repr, missing))}")


def _by_id(client: Client, catalog: str, ids: Sequence[str]) -> Items:
    parts = [client.items(catalog, ids[start : start + _PAGE]) for start in range(0, len(ids), _PAGE)]
    return Items(
        tuple(item for part in parts for item in part.found),
        tuple(item_id for part in parts for item_id in part.missing),
    )


def _first_items(
    client: Client, catalog: str, where: Filter | None, limit: int, token: str
) -> tuple[Sequence[Item], str]:
    """Return up to `limit` items from a page token on, and the token of what follows them."""
    found: list[Item] = []
    while True:
        size = min(limit - len(found), _PAGE)
        page = client.list_items(catalog, where=where, page_size=size, page_token=token)
        found += page.entries
        token = page.next_page_token
        if len(found) >= limit or not token:
            return found, token


@app.command()
@in_groups({_ITEM: ("image", "fields", "payload", "image_location")})
@with_connection
def upsert(
    name: CatalogName,
    item_id: ItemId,
    image: Annotated[Path, typer.Option("--image", metavar="FILE", help="The image to embed.")],
    fields: Set = None,
    payload: Payload = None,
    image_location: Annotated[
        str | None,
        typer.Option(
            "--image-location", metavar="TEXT", help="Stored as the image's place. Default: its full path."
        ),
    ] = None,
    as_json: Json = False,
    *,
    connection: Connection,
) -> None:
    """Write one item with its image into the published version; an item of that id is replaced."""
    if fields and payload is not None:
        raise WrongUsage("--payload is the whole payload; give either it or --set")
    location = str(image.resolve()) if image_location is None else image_location
    with connection.open(name) as client:
        if payload is not None:
            values = parse_payload(payload)
        else:
            values = {**parse_fields(fields or [], _schema(client, name) if fields else {})}
        write = ItemWrite(item_id, content=image, payload=values, image=location)
        _check(client.upsert(name, [write]).errors)
    _print_done(name, item_id, "written", as_json=as_json)


@app.command()
@in_groups({_ITEM: ("fields", "unset", "payload", "image_location")})
@with_connection
def update(
    name: CatalogName,
    item_id: ItemId,
    fields: Set = None,
    unset: Annotated[
        list[str] | None,
        typer.Option("--unset", metavar="FIELD", help="Remove a payload field. Repeatable."),
    ] = None,
    payload: Payload = None,
    image_location: ImageLocation = None,
    as_json: Json = False,
    *,
    connection: Connection,
) -> None:
    """Change an item's payload or image location; its vector stays and nothing is embedded.

    --set and --unset change single fields, --payload replaces all of them.
    """
    single = bool(fields or unset)
    if not single and payload is None and image_location is None:
        raise WrongUsage("nothing to change; give --set, --unset, --payload or --image-location")
    if single and (payload is not None or image_location is not None):
        raise WrongUsage("--set and --unset change single fields alone; give the rest in a second command")
    with connection.open(name) as client:
        if single:
            values = parse_fields(fields or [], _schema(client, name) if fields else {})
            if twice := sorted(values.keys() & set(unset or [])):
                raise WrongUsage(f"--set and --unset both name {twice[0]!r}")
            named = [*values, *(unset or [])]
            updated = client.update(name, [ItemUpdate(item_id, values)], fields=named)
        else:
            whole = None if payload is None else parse_payload(payload)
            updated = client.update(name, [ItemUpdate(item_id, whole, image_location)])
        _check(updated.errors)
    _print_done(name, item_id, "changed", as_json=as_json)


def _print_done(name: str, item_id: str, act: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"catalog": name, "id": item_id, "state": act})
    else:
        print(f"{name}: {item_id} is {act}")


@app.command()
@with_connection
def delete(
    name: CatalogName,
    item_ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]", help="Ids of the items.")] = None,
    filters: Filters = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete what --filter finds without asking.")] = False,
    as_json: Json = False,
    *,
    connection: Connection,
) -> None:
    """Delete items of the published version, by id or by filter. What a filter finds is counted first."""
    if bool(item_ids) == bool(filters):
        raise WrongUsage("name the items to delete: either ids or --filter")
    if filters and not yes:
        check_can_ask("delete what --filter finds", as_json=as_json)
    with connection.open(name) as client:
        if item_ids:
            ids = list(dict.fromkeys(item_ids))
            deleted = client.delete(name, ids)
            existed = f"of {counted(len(ids), 'item', 'items')} existed and"
            text = counted(deleted, f"{existed} is", f"{existed} are")
        else:
            where = parse_filters(filters or [], _schema(client, name))
            if not as_json:
                count = client.delete_where(name, where, validate_only=True)
                print(f"{name}: {counted(count, 'item passes', 'items pass')} the filter", flush=True)
                if not count:
                    return
                if not yes and not typer.confirm(f"Delete {counted(count, 'item', 'items')}?"):
                    raise Failure("nothing was deleted")
            deleted = client.delete_where(name, where)
            text = counted(deleted, "item is", "items are")
    if as_json:
        print_json({"catalog": name, "deleted": deleted})
    else:
        print(f"{name}: {text} deleted")


def _schema(client: Client, name: str) -> dict[str, str]:
    published = client.catalog(name).published
    return published.schema if published else {}


def _check(errors: tuple[ItemError, ...]) -> None:
    """Raise `Failure` for the error of the one item that was sent."""
    if errors:
        raise Failure(f"{errors[0].item_id}: {errors[0].message} ({errors[0].reason})")


def _machine_readable(item: Item) -> dict[str, object]:
    return {"id": item.id, "payload": item.payload, "image": item.image}
