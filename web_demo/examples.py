"""Examples of a catalog: an item, words that change it, and what is found by both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from cir.errors import CirError
from cir.models import Item, Result, SearchAnswer
from web_demo.state import State, TurnState
from web_demo.wording import change

_EXAMPLES = 3
_TRIED = 8
_DEEPEST = 3

Search = Callable[[State, str], Awaitable[SearchAnswer]]


@dataclass(frozen=True, slots=True)
class Example:
    """An item, words, and the first result that is as they ask."""

    reference: Item | Result
    text: str
    found: Result


async def find_examples(
    catalog: str, wall: Sequence[Item | Result], words: Mapping[str, Sequence[str]], search: Search
) -> list[Example]:
    """Return examples that work: of `wall`'s items, each with another value of a field of `words`.

    An example is one whose answer has, among the first results, an item with that value. Where there are
    enough, their words differ.
    """
    wishes = [wish for place, item in enumerate(wall[:_TRIED]) if (wish := _wish(item, words, place))]
    found = await asyncio.gather(*(_try(catalog, *wish, search) for wish in wishes))
    different, again = list[Example](), list[Example]()
    for example in found:
        if example:
            (again if example.text in {one.text for one in different} else different).append(example)
    return [*different, *again][:_EXAMPLES]


def _wish(
    item: Item | Result, words: Mapping[str, Sequence[str]], place: int
) -> tuple[Item | Result, str, str] | None:
    """Return an item, a field of it and another value of that: other fields and values at other places."""
    fields = [field for field, values in words.items() if item.payload.get(field) in values]
    if not fields:
        return None
    field = fields[place % len(fields)]
    others = [value for value in words[field] if value != item.payload[field]]
    return item, field, others[place % len(others)]


async def _try(catalog: str, item: Item | Result, field: str, value: str, search: Search) -> Example | None:
    text = change(field, value)
    try:
        answer = await search(State(catalog, (TurnState(item=item.id, text=text),)), "")
    except CirError:
        return None  # pages do without
    for result in list(answer)[:_DEEPEST]:
        if result.id != item.id and result.payload.get(field) == value:
            return Example(item, text, result)
    return None
