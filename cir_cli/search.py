"""`cir search`: a composed query from the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cir.client import Client
from cir.filters import Filter
from cir.models import SearchAnswer
from cir.turns import Turn
from cir_cli.contact_sheet import write_sheet
from cir_cli.errors import Failure
from cir_cli.options import Connection, Json, with_connection
from cir_cli.output import answer_document, print_answer, print_json
from cir_cli.parse import all_turns, parse_filters, read_turns


class Feedback(StrEnum):
    """The way liked and disliked items move the query."""

    ROCCHIO = "rocchio"
    RECOMMEND = "recommend"


@with_connection
def search(
    catalog: Annotated[str, typer.Option("--catalog", "-c", help="The catalog to search.")],
    image: Annotated[Path | None, typer.Option("--image", "-i", help="Image to start from.")] = None,
    item: Annotated[
        str | None, typer.Option("--item", help="Item of the catalog to start from, by id.")
    ] = None,
    text: Annotated[
        str, typer.Option("--text", "-t", help="The change wanted; alone: what to search for.")
    ] = "",
    like: Annotated[
        list[str] | None, typer.Option("--like", help="Item in the right direction; repeatable.")
    ] = None,
    dislike: Annotated[
        list[str] | None, typer.Option("--dislike", help="Item in the wrong direction; repeatable.")
    ] = None,
    then: Annotated[
        list[str] | None, typer.Option("--then", help="A further turn with this text; repeatable.")
    ] = None,
    turns: Annotated[
        Path | None,
        typer.Option(
            "--turns",
            metavar="FILE",
            help="JSON file with turns that come first: a list of objects with image, item, text, like, "
            "dislike, text_weight.",
        ),
    ] = None,
    combiner: Annotated[
        str,
        typer.Option(
            "--combiner",
            help="A combiner of the server, such as sum or combiner/NAME; default: the server's.",
        ),
    ] = "",
    text_weight: Annotated[
        float | None,
        typer.Option(
            "--text-weight",
            min=0,
            max=1,
            help="Between the image (0) and --text (1); 0.5 is the combiner's own answer (slerp: 0.6).",
        ),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            "-f",
            metavar="FIELD=VALUE",
            help="Only items with this: FIELD=VALUE, FIELD=A,B (one of them), FIELD!=VALUE, FIELD<N, "
            "FIELD<=N, FIELD>N, FIELD>=N; repeatable, all must hold.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Number of results.")] = 10,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every vector.")] = False,
    feedback: Annotated[
        Feedback, typer.Option("--feedback", help="How --like and --dislike move the query.")
    ] = Feedback.ROCCHIO,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Say what image and text gave to each turn, and of each result its cosines to both and what "
            "changed against the item that was started from.",
        ),
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE.png", help="Write a contact sheet.")
    ] = None,
    as_json: Json = False,
    *,
    connection: Connection,
) -> None:
    """Find what looks like an image, with the change that a text describes.

    cir search -c shop --image dress.jpg --text "in red, with long sleeves" --filter "price<50"
    """
    if item == "":
        raise Failure("--item is empty; give an item's id", exit_code=2)
    given = Turn(image, item or "", None, text, like or (), dislike or (), text_weight)
    asked = all_turns(read_turns(turns) if turns else [], given, then or [])
    with connection.open() as client:
        pages = client.search_pages(
            catalog,
            turns=asked,
            combiner=combiner,
            where=_where(filters or [], client, catalog),
            limit=limit,
            exact=exact,
            feedback=feedback.value,
            explain_turns=explain,
            explain_results=explain,
        )
        answer = _first_results(pages, limit)
        if as_json:
            print_json(answer_document(answer))
        else:
            print_answer(answer)
        if sheet is not None:
            write_sheet(
                sheet,
                heading=f"catalog {catalog}",
                turns=asked,
                answer=answer,
                client=client,
                catalog=catalog,
            )
            if not as_json:
                print(f"contact sheet: {sheet}")


def _first_results(pages: Iterator[SearchAnswer], limit: int) -> SearchAnswer:
    """Return the first answer with `limit` results, where large items make its page end early."""
    first = last = next(pages)
    results = [*first]
    while len(results) < limit and len(last) and last.next_page_token:
        last = next(pages)
        results += last
    return replace(first, results=tuple(results[:limit]), next_page_token=last.next_page_token)


def _where(filters: Sequence[str], client: Client, catalog: str) -> Filter | None:
    if not filters:
        return None
    published = client.catalog(catalog).published
    return parse_filters(filters, published.schema if published is not None else {})
