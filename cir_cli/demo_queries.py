"""The demo's queries, through the public client: each with the items that are right answers to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cir.turns import Turn
from combiner_training.datasets.triplets import DIALOGUES_FILE, TRIPLETS_FILE, load_dialogues, load_triplets
from garments.language import caption
from garments.render import render
from garments.vocabulary import BASE, matches

# Of combinations and phrasings that the shipped models have not seen in training.
_SPLIT = "test"
_IMAGE_COLOUR = "turquoise"
_PRICE = 60.0
_TALK_TURNS = 3


@dataclass(frozen=True, slots=True)
class DemoQuery:
    """A query, what to call it, the same in code, and the ids of every right answer."""

    title: str
    code: str
    turns: tuple[Turn, ...]
    right: frozenset[str]
    where: Mapping[str, object] | None = None


def demo_queries(catalog: str, folder: Path) -> Iterator[DemoQuery]:
    """The queries on a catalog that `garments` drew into `folder`."""
    rows = [json.loads(line) for line in (folder / "garments.jsonl").read_text(encoding="utf-8").splitlines()]
    ids = {row["image"]: row["id"] for row in rows}
    wanted = next(row for row in rows if row["split"] == _SPLIT and row["price"] < _PRICE)
    attributes = {name: wanted[name] for name in BASE}
    text = caption(attributes)
    yield DemoQuery(
        f"a text, below {_PRICE:g} only",
        f'client.search("{catalog}", text="{text}", where={{"price": {{"lt": {_PRICE:g}}}}})',
        (Turn(text=text),),
        frozenset(row["id"] for row in rows if matches(row, attributes) and row["price"] < _PRICE),
        {"price": {"lt": _PRICE}},
    )
    hoodie = next(row for row in rows if row["kind"] == "hoodie" and row["colour"] != _IMAGE_COLOUR)
    attributes = {name: hoodie[name] for name in BASE}
    text = f"in {hoodie['colour']}"
    yield DemoQuery(
        "an image that is not in the catalog, and a change",
        f'client.search("{catalog}", image="{_IMAGE_COLOUR}-hoodie.jpg", text="{text}")',
        (Turn(image=render(attributes | {"colour": _IMAGE_COLOUR}, seed=2024), text=text),),
        frozenset(row["id"] for row in rows if matches(row, attributes)),
    )
    asked = load_triplets(folder / TRIPLETS_FILE, _SPLIT).queries[0]
    change = asked.texts[0]
    yield DemoQuery(
        "an item of the catalog and a change (its stored features are used, no image is encoded)",
        f'client.search("{catalog}", item="{ids[asked.reference]}", text="{change}")',
        (Turn(item=ids[asked.reference], text=change),),
        frozenset(ids[name] for name in asked.targets),
    )
    talk = next(
        each for each in load_dialogues(folder / DIALOGUES_FILE, _SPLIT) if len(each.turns) == _TALK_TURNS
    )
    first, *rest = (turn.text for turn in talk.turns)
    yield DemoQuery(
        "a dialogue: an item, and three changes one after another",
        f'client.search("{catalog}", turns=[Turn(item="{ids[talk.reference]}", text="{first}"), '
        + ", ".join(f'Turn(text="{text}")' for text in rest)
        + "])",
        (Turn(item=ids[talk.reference], text=first), *(Turn(text=text) for text in rest)),
        frozenset(ids[name] for name in talk.turns[-1].targets),
    )
