"""Plain data for the templates: facets, cards, results, suggestions. Pure.

Templates read search answers and items as the client gives them; what is made here is where each click leads
and what the page adds to an answer.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from cir.models import FacetCount, Item, Result, SearchAnswer
from web_demo.backend import COLOUR_FIELDS, CatalogContext, PageData, typed_value
from web_demo.state import State

_NOUN_FIELDS = ("kind", "type", "category", "label")
_MAX_SUGGESTIONS = 6
_MAX_BENCHMARK_SUGGESTIONS = 3
_MAX_SUGGESTED_CHARACTERS = 30


@dataclass(frozen=True, slots=True)
class Card:
    """One item, and where its clicks lead. Without URLs to judge it where it was not searched for."""

    item: Result | Item
    title: str
    image_url: str
    more_like_url: str
    like_url: str = ""
    dislike_url: str = ""
    exclude_url: str = ""
    is_liked: bool = False
    is_disliked: bool = False
    is_target: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One turn in the strip of the conversation. `number` counts from 1."""

    number: int
    image_url: str
    text: str
    liked: int
    disliked: int
    back_url: str
    remove_url: str
    is_last: bool


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value to filter by, how many items have it, and where a click leads."""

    text: str
    count: int
    is_set: bool
    toggle_url: str


@dataclass(frozen=True, slots=True)
class Facet:
    """A field to filter by."""

    field: str
    values: Sequence[FacetValue]


@dataclass(frozen=True, slots=True)
class SetFilter:
    """A filter of the address, and where a click leads that takes it away."""

    field: str
    text: str
    remove_url: str


@dataclass(frozen=True, slots=True)
class Results:
    """The answer of one combiner. `text_weight` is that of the last turn where it was composed."""

    combiner: str
    answer: SearchAnswer
    cards: Sequence[Card]
    text_weight: float | None = None
    target_rank: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that the start page or a page of results shows. `hidden` are fields that carry the state.

    `other_filters` are set and not among the values of `facets`; `unknown_filters` are those of the address
    that this catalog does not have, and which are not applied.
    """

    state: State
    catalogs: Sequence[str]
    combiners: Sequence[str]
    facets: Sequence[Facet]
    steps: Sequence[Step]
    hidden: Sequence[tuple[str, str]]
    explore: Sequence[Card] = ()
    results: Sequence[Results] = ()
    suggestions: Sequence[str] = ()
    group: Sequence[Card] = ()
    other_filters: Sequence[SetFilter] = ()
    unknown_filters: Sequence[SetFilter] = ()
    has_target: bool = False


def build_page(data: PageData) -> Page:
    """Lay out what was fetched."""
    state, benchmark = data.state, data.benchmark
    targets = benchmark.targets if benchmark else frozenset()
    facets = build_facets(state, data.context)
    other, unknown = build_other_filters(state, data.context, facets)
    return Page(
        state=state,
        catalogs=data.catalogs,
        combiners=data.context.info.combiners,
        facets=facets,
        steps=build_steps(state),
        hidden=state.pairs(),
        explore=[build_card(state, result) for result in data.explore or ()],
        results=[build_results(state, combiner, answer, targets) for combiner, answer in data.answers],
        suggestions=build_suggestions(data) if state.turns else (),
        group=[build_card(state, item, targets) for item in data.group],
        other_filters=other,
        unknown_filters=unknown,
        has_target=benchmark is not None,
    )


def build_results(
    state: State, combiner: str, answer: SearchAnswer, targets: frozenset[str] = frozenset()
) -> Results:
    """Lay out the answer of `combiner` ("" for the default one). `targets` are paths of images."""
    turns = answer.explanation.turns
    composed = turns and turns[-1].kind in ("composed", "continued")
    return Results(
        combiner=answer.explanation.combiner or combiner,
        answer=answer,
        cards=[build_judged_card(state, result, targets) for result in answer],
        text_weight=turns[-1].text_weight if composed else None,
        target_rank=next((result.rank for result in answer if result.image in targets), None),
    )


def build_card(state: State, item: Result | Item, targets: frozenset[str] = frozenset()) -> Card:
    """Return the card of an item that can be looked at or searched from."""
    return Card(
        item=item,
        title=item_title(item.id, item.payload),
        image_url=image_url(state.catalog, item.id),
        more_like_url=state.more_like(item.id).url,
        is_target=item.image in targets,
    )


def build_judged_card(state: State, result: Result, targets: frozenset[str]) -> Card:
    """Return the card of a result, which can be liked, disliked and excluded as well."""
    return Card(
        item=result,
        title=item_title(result.id, result.payload),
        image_url=image_url(state.catalog, result.id),
        more_like_url=state.more_like(result.id).url,
        like_url=state.judge(result.id, like=True).url,
        dislike_url=state.judge(result.id, like=False).url,
        exclude_url=state.exclude(result.id).url,
        is_liked=result.id in state.last.liked,
        is_disliked=result.id in state.last.disliked,
        is_target=result.image in targets,
    )


def build_steps(state: State) -> list[Step]:
    """Return the strip of turns."""
    steps: list[Step] = []
    for index, turn in enumerate(state.turns):
        if turn.item:
            url = image_url(state.catalog, turn.item)
        else:
            url = f"/uploaded?{urlencode({'n': turn.upload})}" if turn.upload else ""
        steps.append(
            Step(
                number=index + 1,
                image_url=url,
                text=turn.text,
                liked=len(turn.liked),
                disliked=len(turn.disliked),
                back_url=state.back_to(index + 1).url,
                remove_url=state.without_turn(index).url,
                is_last=index == len(state.turns) - 1,
            )
        )
    return steps


def build_facets(state: State, context: CatalogContext) -> list[Facet]:
    """Return the fields that have more than one value to choose from."""
    return [
        Facet(field, [_facet_value(state, field, count) for count in counts])
        for field, counts in context.facets.items()
        if len(counts) > 1
    ]


def build_other_filters(
    state: State, context: CatalogContext, facets: Sequence[Facet]
) -> tuple[list[SetFilter], list[SetFilter]]:
    """Return the filters that are set without being values of `facets`, and those that cannot be applied."""
    shown = {(facet.field, value.text) for facet in facets for value in facet.values}
    other, unknown = list[SetFilter](), list[SetFilter]()
    for field, text in state.filters:
        entry = SetFilter(field, text, state.toggle_filter(field, text).url)
        if typed_value(text, context.version.schema.get(field, "")) is None:
            unknown.append(entry)
        elif (field, text) not in shown:
            other.append(entry)
    return other, unknown


def _facet_value(state: State, field: str, count: FacetCount) -> FacetValue:
    text = str(count.value).lower() if isinstance(count.value, bool) else str(count.value)
    return FacetValue(
        text=text,
        count=count.count,
        is_set=(field, text) in state.filters,
        toggle_url=state.toggle_filter(field, text).url,
    )


def build_suggestions(data: PageData) -> list[str]:
    """Return texts to try next: those of benchmark queries first, then changes to the reference."""
    values = {field: [str(count.value) for count in counts] for field, counts in data.context.facets.items()}
    payload = data.reference.payload if data.reference else {}
    seed = len(data.state.turns) + data.state.seed
    texts = [*data.suggested[:_MAX_BENCHMARK_SUGGESTIONS], *suggest_changes(values, payload, seed=seed)]
    return list(dict.fromkeys(texts))[:_MAX_SUGGESTIONS]


def suggest_changes(
    values: Mapping[str, Sequence[str]], payload: Mapping[str, object], *, seed: int = 0
) -> list[str]:
    """Return texts that would change an item: of `values` by field, some that its payload does not have."""
    rng = random.Random(seed)  # noqa: S311  # suggestions, not secrets
    texts: list[str] = []
    for field, known in values.items():
        others = [
            value
            for value in known
            if value != payload.get(field) and len(value) <= _MAX_SUGGESTED_CHARACTERS
        ]
        texts += [_change(field.lower(), value) for value in rng.sample(others, min(2, len(others)))]
    rng.shuffle(texts)
    return texts[:_MAX_SUGGESTIONS]


def _change(field: str, value: str) -> str:
    if field in COLOUR_FIELDS:
        return f"in {value}"
    if field in _NOUN_FIELDS:
        return f"{'an' if value[:1].lower() in 'aeiou' else 'a'} {value} instead"
    return f"{value} instead"


def image_url(catalog: str, item_id: str) -> str:
    """Return the URL of an item's thumbnail."""
    return f"/picture?{urlencode({'c': catalog, 'i': item_id})}"


def item_title(item_id: str, payload: Mapping[str, object]) -> str:
    """Return the name to show for an item: its title, name or caption, else its id."""
    for name in ("title", "name", "caption"):
        if isinstance(value := payload.get(name), str) and value:
            return value
    return item_id
