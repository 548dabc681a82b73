"""Plain data for the templates: facets, cards, results, suggestions. Pure.

Templates read search answers and items as the client gives them; what is made here is what the page adds to
them. The values of buttons are those of `web_demo.actions`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from cir.models import Contribution, FacetCount, Item, Result, SearchAnswer
from web_demo.backend import CatalogContext, KnownRank, PageData, QueryPlace
from web_demo.filters import Bounds, choose_range_fields, read_value
from web_demo.state import State, TurnState, write_filter
from web_demo.web_images import is_on_the_web
from web_demo.wording import MAX_SUGGESTIONS, is_beyond_latin, item_title, suggest_changes, words_of

_MAX_BENCHMARK_SUGGESTIONS = 3


@dataclass(frozen=True, slots=True)
class Change:
    """A field of the payload that is other than the reference's."""

    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Card:
    """One item. It can be judged where it was searched for.

    `changed` and `kept` compare what the catalog says of it with what it says of the reference.
    """

    item: Result | Item
    title: str
    image_url: str
    can_judge: bool = False
    is_liked: bool = False
    is_disliked: bool = False
    is_target: bool = False
    changed: Sequence[Change] = ()
    kept: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ExampleCard:
    """An item, words, and what was found by both; `url` asks it."""

    reference: Card
    text: str
    found: Card
    url: str


@dataclass(frozen=True, slots=True)
class Step:
    """One turn in the strip of the conversation. `number` counts from 1.

    `title` is its reference's name, empty for an upload. It counts unless a later turn began anew.
    """

    number: int
    image_url: str
    title: str
    text: str
    liked: int
    disliked: int
    back_url: str
    counts: bool
    is_last: bool


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value to filter by, how many items have it, and the value of its button."""

    text: str
    count: int
    is_set: bool
    toggle: str


@dataclass(frozen=True, slots=True)
class Facet:
    """A field to filter by."""

    field: str
    values: Sequence[FacetValue]


@dataclass(frozen=True, slots=True)
class RangeField:
    """A field of numbers or days to filter by a range; `kind` is the type of its fields in a form."""

    field: str
    kind: str
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class SetFilter:
    """A filter of the address, and the value of the button that takes it away."""

    field: str
    text: str
    toggle: str


@dataclass(frozen=True, slots=True)
class Results:
    """The answer of one combiner. `contribution` is what words and picture gave to the last turn.

    `takes_weight` says that a weight of the words of the last turn would move it.
    """

    combiner: str
    answer: SearchAnswer
    cards: Sequence[Card]
    contribution: Contribution | None = None
    takes_weight: bool = False
    known: KnownRank | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that the start page or a page of results shows. `hidden` are fields that carry the state.

    `filters` are those that are set and applied; `unknown_filters` are those of the address that this catalog
    does not have. `liked`, `disliked` and `excluded` are what was judged, to be taken back. `query` names the
    benchmark query that was asked as it stands, empty where filters, judgements or a weight change it.
    `is_empty` is True for a catalog without items.
    """

    state: State
    catalogs: Sequence[str]
    combiners: Sequence[str]
    facets: Sequence[Facet]
    ranges: Sequence[RangeField]
    steps: Sequence[Step]
    hidden: Sequence[tuple[str, str]]
    explore: Sequence[Card] = ()
    examples: Sequence[ExampleCard] = ()
    results: Sequence[Results] = ()
    suggestions: Sequence[str] = ()
    group: Sequence[Card] = ()
    filters: Sequence[SetFilter] = ()
    unknown_filters: Sequence[SetFilter] = ()
    liked: Sequence[Card] = ()
    disliked: Sequence[Card] = ()
    excluded: Sequence[Card] = ()
    gone_items: int = 0
    gone_uploads: int = 0
    place: QueryPlace | None = None
    query: str = ""
    first_query: State | None = None
    is_empty: bool = False
    has_no_pictures: bool = False
    has_shipped_model: bool = False
    has_unknown_words: bool = False


def build_page(data: PageData) -> Page:
    """Lay out what was fetched."""
    state, benchmark = data.state, data.benchmark
    targets = benchmark.targets if benchmark else frozenset[str]()
    filters, unknown = build_filters(state, data.context.version.schema)
    model = data.context.info.model
    shipped = model is not None and model.pretrained == "shipped"
    ranks: Sequence[KnownRank | None] = data.ranks or [None] * len(data.answers)
    return Page(
        state=state,
        catalogs=data.catalogs,
        combiners=data.context.info.combiners,
        facets=build_facets(state, data.facets),
        ranges=build_ranges(state, data.context.version.schema),
        steps=build_steps(state, data.named),
        hidden=state.pairs(),
        explore=[build_card(state, item) for item in data.explore],
        examples=[
            ExampleCard(
                build_card(state, example.reference),
                example.text,
                build_card(state, example.found),
                replace(state, turns=(TurnState(item=example.reference.id, text=example.text),)).url,
            )
            for example in data.examples
        ],
        results=[
            build_results(state, combiner, answer, data.context, targets, rank)
            for (combiner, answer), rank in zip(data.answers, ranks, strict=True)
        ],
        suggestions=build_suggestions(data) if state.turns else (),
        group=[build_card(state, item, targets) for item in data.group],
        filters=filters,
        unknown_filters=unknown,
        liked=[build_card(state, data.named[i]) for i in state.last.liked if i in data.named],
        disliked=[build_card(state, data.named[i]) for i in state.last.disliked if i in data.named],
        excluded=[build_card(state, data.named[i]) for i in state.excluded if i in data.named],
        gone_items=data.gone_items,
        gone_uploads=data.gone_uploads,
        place=data.place,
        query=_plain_query(state) if benchmark else "",
        first_query=data.first_query,
        is_empty=data.context.version.item_count == 0,
        has_no_pictures=_has_no_pictures(data),
        has_shipped_model=shipped,
        has_unknown_words=shipped and any(is_beyond_latin(turn.text) for turn in state.turns),
    )


def _has_no_pictures(data: PageData) -> bool:
    """Return True where no item of the start page has an image that this page may read, as after calls."""
    shown = data.explore
    return (
        bool(shown)
        and not data.context.version.image_folders
        and not any(is_on_the_web(item.image) for item in shown)
    )


def _plain_query(state: State) -> str:
    """Return the name of a benchmark query that is asked as its manifest has it; empty where it is not."""
    turn = state.last
    plain = State(state.catalog, (TurnState(item=turn.item, text=turn.text),))
    asked = replace(state, combiner="", versus="", language="", seed=0)
    return f"{turn.item} {turn.text}" if asked == plain else ""


def build_results(
    state: State,
    combiner: str,
    answer: SearchAnswer,
    context: CatalogContext,
    targets: frozenset[str] = frozenset(),
    known: KnownRank | None = None,
) -> Results:
    """Lay out the answer of `combiner` ("" for the default one). `targets` are paths of images."""
    explanation = answer.explanation
    last = explanation.turns[-1] if explanation.turns else None
    composed = last is not None and last.kind in ("composed", "continued")
    return Results(
        combiner=explanation.combiner or combiner or context.default_combiner,
        answer=answer,
        cards=[
            replace(
                build_card(state, result, targets, can_judge=True),
                changed=build_changes(result, explanation.reference, context.facets),
                kept=build_kept(result, context.facets),
            )
            for result in answer
        ],
        contribution=last.contribution if last else None,
        takes_weight=composed and explanation.combiner in context.info.weighted_combiners,
        known=known,
    )


def build_changes(result: Result, reference: Item | None, fields: Collection[str]) -> list[Change]:
    """Return which of the fields that people filter by are other than in the reference."""
    if result.explanation is None or reference is None:
        return []
    return [
        Change(field, _value_text(reference.payload.get(field)), _value_text(result.payload.get(field)))
        for field in result.explanation.changed
        if field in fields
    ]


def build_kept(result: Result, fields: Collection[str]) -> list[str]:
    """Return the values of those fields that are as in the reference."""
    if result.explanation is None:
        return []
    return [_value_text(result.payload.get(field)) for field in result.explanation.kept if field in fields]


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ", ".join(_value_text(each) for each in value)
    return str(value)


def build_card(
    state: State, item: Result | Item, targets: frozenset[str] = frozenset(), *, can_judge: bool = False
) -> Card:
    """Return the card of an item that can be looked at, searched from and, where it was found, judged."""
    return Card(
        item=item,
        title=item_title(item),
        image_url=image_url(state.catalog, item.id),
        can_judge=can_judge,
        is_liked=item.id in state.last.liked,
        is_disliked=item.id in state.last.disliked,
        is_target=item.image in targets,
    )


def build_steps(state: State, named: Mapping[str, Item]) -> list[Step]:
    """Return the strip of turns; `named` are the items of its references by id."""
    steps: list[Step] = []
    for index, turn in enumerate(state.turns):
        if turn.item:
            url = image_url(state.catalog, turn.item)
        else:
            url = f"uploaded?{urlencode({'n': turn.upload})}" if turn.upload else ""
        item = named.get(turn.item)
        steps.append(
            Step(
                number=index + 1,
                image_url=url,
                title=item_title(item) if item else turn.item,
                text=turn.text,
                liked=len(turn.liked),
                disliked=len(turn.disliked),
                back_url=state.back_to(index + 1).url,
                counts=index >= state.counting_from,
                is_last=index == len(state.turns) - 1,
            )
        )
    return steps


def build_facets(state: State, facets: Mapping[str, Sequence[FacetCount]]) -> list[Facet]:
    """Return the fields that have more than one value to choose from, or one that is chosen."""
    chosen = {field for field, _ in state.filters}
    return [
        Facet(field, [_facet_value(state, field, count) for count in counts])
        for field, counts in facets.items()
        if len(counts) > 1 or (counts and field in chosen)
    ]


def build_ranges(state: State, schema: Mapping[str, str]) -> list[RangeField]:
    """Return the fields of numbers and days, with the bounds that are set."""
    ranges: list[RangeField] = []
    for name in choose_range_fields(schema):
        values = [read_value(text, schema[name]) for field, text in state.filters if field == name]
        bounds = next((value for value in values if isinstance(value, Bounds)), Bounds("", ""))
        ranges.append(RangeField(name, "date" if schema[name] == "datetime" else "number", bounds))
    return ranges


def build_filters(state: State, schema: Mapping[str, str]) -> tuple[list[SetFilter], list[SetFilter]]:
    """Return the filters that are set, and those that cannot be applied to this catalog."""
    known, unknown = list[SetFilter](), list[SetFilter]()
    for field, text in state.filters:
        value = read_value(text, schema.get(field, ""))
        shown = f"{value.low} – {value.high}".strip() if isinstance(value, Bounds) else text
        entry = SetFilter(field, shown, write_filter(field, text))
        (unknown if value is None else known).append(entry)
    return known, unknown


def _facet_value(state: State, field: str, count: FacetCount) -> FacetValue:
    text = _value_text(count.value)
    return FacetValue(
        text=text,
        count=count.count,
        is_set=(field, text) in state.filters,
        toggle=write_filter(field, text),
    )


def build_suggestions(data: PageData) -> list[str]:
    """Return texts to try next: those of benchmark queries first, then changes to the reference."""
    values = words_of(data.context.facets, data.context.version.item_count)
    reference = data.named.get(data.state.last.item)
    payload = reference.payload if reference and not data.state.last.text else {}
    seed = len(data.state.turns) + data.state.seed
    texts = [*data.suggested[:_MAX_BENCHMARK_SUGGESTIONS], *suggest_changes(values, payload, seed=seed)]
    return list(dict.fromkeys(texts))[:MAX_SUGGESTIONS]


def image_url(catalog: str, item_id: str, size: str = "") -> str:
    """Return the address of an item's image, small or in another size that `web_demo.media` makes."""
    return f"picture?{urlencode({'c': catalog, 'i': item_id} | ({'size': size} if size else {}))}"
