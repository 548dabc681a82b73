"""`cir items`: the items of a catalog."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from cir.catalog_answers import Item
from cir.commands.filter_text import parse_filters
from cir.commands.options import (
    DEFAULT_SERVER,
    ApiKey,
    CaFile,
    CertFile,
    Json,
    KeyFile,
    Server,
    Timeout,
    connect,
)
from cir.commands.output import console, payload_text, print_json, table

_PAGE = 1000


def items(
    catalog: Annotated[str, typer.Argument(help="Name of the catalog.")],
    item_id: Annotated[str, typer.Argument(metavar="[ID]", help="Show this item alone.")] = "",
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", "-f", metavar="FIELD=VALUE", help="As in `cir search`; repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Items to show.")] = 20,
    as_json: Json = False,
    server: Server = DEFAULT_SERVER,
    api_key: ApiKey = "",
    ca_file: CaFile = None,
    cert_file: CertFile = None,
    key_file: KeyFile = None,
    timeout: Timeout = 30.0,
) -> None:
    """Show items of a catalog, or one item."""
    with connect(server, api_key, ca_file, cert_file, key_file, timeout) as client:
        if item_id:
            found = [client.item(catalog, item_id)]
        else:
            published = client.catalog(catalog).published if filters else None
            where = parse_filters(filters or [], published.schema if published else {})
            size = min(limit, _PAGE)
            found = list(islice(client.all_items(catalog, where=where, page_size=size), limit))
    if as_json:
        print_json([_machine_readable(item) for item in found])
    else:
        rows = [(item.id, payload_text(item.payload), item.image) for item in found]
        console().print(table(("id", "payload", "image"), rows))


def _machine_readable(item: Item) -> dict[str, object]:
    return {"id": item.id, "payload": item.payload, "image": item.image}
