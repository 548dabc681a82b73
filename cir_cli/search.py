"""`cir search`: a composed query from the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cir.client import Client
from cir.filters import Filter
from cir.models import SearchAnswer
from cir.turns import Turn
from cir_cli.errors import Failure, WrongUsage
from cir_cli.feature_files import read_vector
from cir_cli.options import OUTPUT, CatalogToRead, Connection, Json, in_groups, with_connection
from cir_cli.output import answer_document, print_answer, print_json
from cir_cli.parse import all_turns, parse_filters, read_turns


class Feedback(StrEnum):
    """The way liked and disliked items move the query."""

    ROCCHIO = "rocchio"
    RECOMMEND = "recommend"


_GROUPS = {
    "What to search for": ("image", "item", "features", "text", "like", "dislike", "then", "turns"),
    "How results are ranked": (
        "combiner", "text_weight", "feedback", "diversity", "group_by", "group_size", "exact", "ef",
    ),
    "Which items are left out": (
        "filters", "exclude", "exclude_references", "exclude_disliked", "score_threshold",
    ),
    "How many results, and from where": ("limit", "page_token", "version"),
    OUTPUT: ("explain", "with_features", "with_query_vector", "sheet"),
}  # fmt: skip
NO_FLAGS = {
    "where": "--filter, in words",
    "explain_turns": "--explain asks for both",
    "explain_results": "--explain asks for both",
    "timeout": "--timeout is that of each call",
}
"""Parameters of a search that are no options of the command of the same name, and why."""


# What a request has room for; how many results a service gives is its own to say.
_MOST = 2**31 - 1


@in_groups(_GROUPS)
@with_connection
def search(
    catalog: CatalogToRead,
    image: Annotated[
        Path | None,
        typer.Option("--image", "-i", help="Image to start from."),
    ] = None,
    item: Annotated[
        str | None,
        typer.Option("--item", help="Item of the catalog to start from, by id."),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            "--features",
            metavar="FILE",
            help="Features to start from: one row of what cir embed or cir combine wrote (.npy, .json).",
        ),
    ] = None,
    text: Annotated[
        str,
        typer.Option("--text", "-t", help="The change wanted; alone: what to search for."),
    ] = "",
    like: Annotated[
        list[str] | None,
        typer.Option("--like", help="Item in the right direction; repeatable."),
    ] = None,
    dislike: Annotated[
        list[str] | None,
        typer.Option("--dislike", help="Item in the wrong direction; repeatable."),
    ] = None,
    then: Annotated[
        list[str] | None,
        typer.Option("--then", help="A further turn with this text; repeatable."),
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
    feedback: Annotated[
        Feedback,
        typer.Option("--feedback", help="How --like and --dislike move the query."),
    ] = Feedback.ROCCHIO,
    diversity: Annotated[
        float,
        typer.Option(
            "--diversity",
            min=0,
            max=1,
            help="Above 0, results also differ from each other (maximal marginal relevance).",
        ),
    ] = 0.0,
    group_by: Annotated[
        str,
        typer.Option(
            "--group-by",
            metavar="FIELD",
            help="Keep --group-size results for each value of this keyword or integer field.",
        ),
    ] = "",
    group_size: Annotated[
        int,
        typer.Option(
            "--group-size",
            min=0,
            max=100,
            help="Results for each value of --group-by; 0 stands for 1.",
        ),
    ] = 0,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every vector.")] = False,
    ef: Annotated[
        int,
        typer.Option(
            "--ef",
            min=0,
            max=10_000,
            help="Breadth of the search in the index; 0: the engine's choice.",
        ),
    ] = 0,
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
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="ID", help="Leave this item out; repeatable."),
    ] = None,
    exclude_references: Annotated[
        bool,
        typer.Option(
            "--exclude-references/--keep-references",
            help="Leave the items out that were started from.",
        ),
    ] = True,
    exclude_disliked: Annotated[
        bool,
        typer.Option(
            "--exclude-disliked/--keep-disliked",
            help="Leave the disliked items out.",
        ),
    ] = True,
    score_threshold: Annotated[
        float | None,
        typer.Option(
            "--score-threshold",
            min=-1,
            max=1,
            help="Leave results with a lower cosine similarity out.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=_MOST, help="Number of results.")] = 10,
    page_token: Annotated[
        str,
        typer.Option(
            "--page-token",
            metavar="TOKEN",
            help="Go on after an earlier answer of the same query: its next_page_token.",
        ),
    ] = "",
    version: Annotated[
        str,
        typer.Option("--version", help="Search this version, published or not."),
    ] = "",
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Say what image and text gave to each turn, and of each result its cosines to both and what "
            "changed against the item that was started from.",
        ),
    ] = False,
    with_features: Annotated[
        bool,
        typer.Option("--with-features", help="With --json: the features of results."),
    ] = False,
    with_query_vector: Annotated[
        bool,
        typer.Option("--with-query-vector", help="With --json: the composed query."),
    ] = False,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="FILE.png", help="Write a contact sheet."),
    ] = None,
    as_json: Json = False,
    *,
    connection: Connection,
) -> None:
    """Find what looks like an image, with the change that a text describes.

    cir search shop --image dress.jpg --text "in red, with long sleeves" --filter "price<50"
    """
    if item == "":
        raise WrongUsage("--item is empty; give an item's id")
    if sum(each is not None for each in (image, item, features)) > 1:
        raise WrongUsage("a search starts from one of --image, --item and --features")
    if sheet is not None:
        # Only here: reading images takes longer to import than the search takes.
        from cir_cli.contact_sheet import check_format, write_sheet

        check_format(sheet)
    if sheet is not None and not sheet.parent.is_dir():
        raise Failure(f"contact sheet {sheet} cannot be written: there is no folder {sheet.parent}")
    start = read_vector(features) if features is not None else None
    given = Turn(image, item or "", start, text, like or (), dislike or (), text_weight)
    asked = all_turns(read_turns(turns) if turns else [], given, then or [])
    with connection.open(catalog, combiner) as client:
        find = partial(
            client.search,
            catalog,
            turns=asked,
            combiner=combiner,
            where=_where(filters or [], client, catalog),
            exact=exact,
            ef=ef,
            score_threshold=score_threshold,
            exclude_references=exclude_references,
            exclude_disliked=exclude_disliked,
            exclude=exclude or (),
            diversity=diversity,
            group_by=group_by,
            group_size=group_size,
            with_features=with_features,
            with_query_vector=with_query_vector,
            version=version,
            feedback=feedback.value,
            explain_turns=explain,
            explain_results=explain,
        )
        answer = _first_results(find, limit, page_token)
        if as_json:
            print_json(answer_document(answer))
        else:
            print_answer(answer)
            if answer.next_page_token:
                print(f"more: --page-token {answer.next_page_token}")
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


def _first_results(find: Callable[..., SearchAnswer], limit: int, page_token: str) -> SearchAnswer:
    """Return the first answer with `limit` results, where large items make its page end early."""
    first = last = find(page_size=limit, page_token=page_token)
    results = [*first]
    # Only for what is missing: the token of a page begins behind all that it holds.
    while len(results) < limit and len(last) and last.next_page_token:
        last = find(page_size=limit - len(results), page_token=last.next_page_token)
        results += last
    return replace(first, results=tuple(results), next_page_token=last.next_page_token)


def _where(filters: Sequence[str], client: Client, catalog: str) -> Filter | None:
    if not filters:
        return None
    published = client.catalog(catalog).published
    return parse_filters(filters, published.schema if published is not None else {})
