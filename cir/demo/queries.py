"""The demo's queries: a text, a picture, an item and two turns, through the public client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cir.demo.drawing import draw_garment
from cir.turn import Turn


@dataclass(frozen=True, slots=True)
class DemoQuery:
    """A query, what to call it, and the same in code."""

    title: str
    code: str
    turns: tuple[Turn, ...]
    where: Mapping[str, object] | None = None


def demo_queries(catalog: str) -> Iterator[DemoQuery]:
    """The queries, each with the Python that asks it."""
    yield DemoQuery(
        "a text",
        f'client.search("{catalog}", text="a red dress with dots")',
        (Turn(text="a red dress with dots"),),
    )
    yield DemoQuery(
        "a picture that is not in the catalog",
        f'client.search("{catalog}", image="green-hoodie.png")',
        (Turn(image=draw_garment("hoodie", "green", "plain", seed=2024)),),
    )
    yield DemoQuery(
        "an item of the catalog (its stored features are used, nothing is encoded)",
        f'client.search("{catalog}", item="shirt-blue-stripes")',
        (Turn(item="shirt-blue-stripes"),),
    )
    yield DemoQuery(
        "two turns: an item with a change, then a further change with feedback; below 60 only",
        f'client.search("{catalog}", where={{"price": {{"lt": 60}}}}, turns=['
        'Turn(item="skirt-blue-plain", text="in red"), '
        'Turn(text="with dots", liked=["skirt-red-dots"], disliked=["skirt-blue-plain"])])',
        (
            Turn(item="skirt-blue-plain", text="in red"),
            Turn(text="with dots", liked=["skirt-red-dots"], disliked=["skirt-blue-plain"]),
        ),
        {"price": {"lt": 60}},
    )
