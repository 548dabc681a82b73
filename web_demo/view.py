"""What the pages show, as plain data for the templates. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from cir.search_answer import SearchAnswer
from web_demo.state import State


@dataclass(frozen=True, slots=True)
class Card:
    """One item on a page."""

    id: str
    title: str
    picture: str
    like_this: str
    payload: Mapping[str, object]
    score: float | None = None
    rank: int = 0
    like: str = ""
    dislike: str = ""
    exclude: str = ""
    liked: bool = False
    disliked: bool = False
    is_target: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One turn in the strip of the conversation. `number` counts from 1."""

    number: int
    picture: str
    text: str
    liked: int
    disliked: int
    back: str
    remove: str
    is_last: bool


@dataclass(frozen=True, slots=True)
class Facet:
    """A field to filter by: values with their counts, whether each is set, and where a click leads."""

    field: str
    values: Sequence[tuple[str, int, bool, str]]


@dataclass(frozen=True, slots=True)
class Results:
    """The answer of one combiner."""

    combiner: str
    cards: Sequence[Card]
    more: str
    text_weight: float | None
    version: str
    target_rank: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that a page of results or the wall shows."""

    state: State
    steps: Sequence[Step] = ()
    found: Sequence[Results] = ()
    wall: Sequence[Card] = ()
    facets: Sequence[Facet] = ()
    suggestions: Sequence[str] = ()
    group: Sequence[Card] = ()
    catalogs: Sequence[str] = ()
    combiners: Sequence[str] = ()
    has_target: bool = False
    notice: str = ""
    hidden: Sequence[tuple[str, str]] = ()


def image_url(catalog: str, item: str) -> str:
    """Where an item's thumbnail is."""
    return f"/picture?{urlencode({'c': catalog, 'i': item})}"


def item_title(item: str, payload: Mapping[str, object]) -> str:
    """What to call an item: its title or caption, else its id."""
    for name in ("title", "name", "caption"):
        if isinstance(value := payload.get(name), str) and value:
            return value
    return item


def build_steps(state: State) -> list[Step]:
    """The strip of turns."""
    return [
        Step(
            number + 1,
            image_url(state.catalog, turn.item)
            if turn.item
            else (f"/uploaded?{urlencode({'n': turn.upload})}" if turn.upload else ""),
            turn.text,
            len(turn.liked),
            len(turn.disliked),
            state.back_to(number + 1).url,
            state.without_turn(number).url,
            number == len(state.turns) - 1,
        )
        for number, turn in enumerate(state.turns)
    ]


def build_cards(
    state: State, answer: SearchAnswer, targets: frozenset[str], *, scored: bool = True
) -> list[Card]:
    """The results, with where each click leads. `targets` are paths of pictures."""
    turn = state.last
    return [
        Card(
            id=result.id,
            title=item_title(result.id, result.payload),
            picture=image_url(state.catalog, result.id),
            like_this=state.like_this(result.id).url,
            payload=result.payload,
            score=result.score if scored else None,
            rank=result.rank,
            like=state.judged(result.id, like=True).url if scored else "",
            dislike=state.judged(result.id, like=False).url if scored else "",
            exclude=state.without(result.id).url if scored else "",
            liked=result.id in turn.liked,
            disliked=result.id in turn.disliked,
            is_target=result.image in targets,
        )
        for result in answer
    ]


_COLOURS = ("colour", "color")
_SKIP = ("id", "split", "price", "caption", "image", "path", "name", "title")


def choose_facet_fields(schema: Mapping[str, str], most: int = 6) -> list[str]:
    """The fields that people filter by: keywords and yes-or-no, colours first."""
    fields = [
        name for name, kind in schema.items() if kind in ("keyword", "bool") and name.lower() not in _SKIP
    ]
    return sorted(fields, key=lambda name: (name.lower() not in _COLOURS, fields.index(name)))[:most]


def suggest_changes(
    facets: Mapping[str, Sequence[str]], of_item: Mapping[str, object], *, seed: int = 0, most: int = 6
) -> list[str]:
    """Texts that would change an item: values of its fields that it has not."""
    rng = random.Random(seed)  # noqa: S311  # suggestions, not secrets
    texts: list[str] = []
    for field, values in facets.items():
        others = [value for value in values if value != of_item.get(field) and len(value) <= 30]
        for value in rng.sample(others, min(2, len(others))):
            texts.append(f"in {value}" if field.lower() in _COLOURS else f"{_article(field, value)}")
    rng.shuffle(texts)
    return texts[:most]


def _article(field: str, value: str) -> str:
    if field.lower() in ("kind", "type", "category", "label"):
        return f"a {value} instead" if value[:1].lower() not in "aeiou" else f"an {value} instead"
    return f"{value} instead"
