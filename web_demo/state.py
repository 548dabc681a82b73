"""The whole of a conversation, as it stands in the URL. Pure.

A turn is numbered by its place: `i0` item or `u0` upload (the reference), `x0` text, `l0` and `d0` liked and
disliked items (repeated), `w0` weight of the text from 0 to 100. For the whole conversation: `c` catalog,
`f` filters (field:value, repeated; a colon in a field is %3A, see `write_filter`), `e` excluded items, `m`
combiner, `v` the one to compare with, `s` seed of the start page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import quote_plus

MAX_TURNS = 16
# A page has hundreds of addresses, each of which says the whole conversation.
MAX_CHARACTERS = 8_000
MAX_FILTERS = 32
_TURN_KEY = re.compile(r"([iuxldw])(\d{1,2})")
_UPLOAD = re.compile(r"[0-9a-f]{32}")

Pairs = list[tuple[str, str]]

# A page has some 180 addresses that differ in one value. Keys need no quoting.
_quoted = lru_cache(maxsize=8192)(quote_plus)


class BadStateError(ValueError):
    """An address that no page of ours leads to; the message is shown."""


@dataclass(frozen=True, slots=True)
class TurnState:
    """One turn. At most one of `item` and `upload` is the reference; `weight` is 0 to 100."""

    item: str = ""
    upload: str = ""
    text: str = ""
    liked: tuple[str, ...] = ()
    disliked: tuple[str, ...] = ()
    weight: int | None = None

    @property
    def is_empty(self) -> bool:
        """True when the turn asks for nothing."""
        return self == TurnState(weight=self.weight)


@dataclass(frozen=True, slots=True)
class State:
    """State of a conversation: everything that its address says."""

    catalog: str = ""
    turns: tuple[TurnState, ...] = ()
    filters: tuple[tuple[str, str], ...] = ()
    excluded: tuple[str, ...] = ()
    combiner: str = ""
    versus: str = ""
    seed: int = 0

    def pairs(self) -> Pairs:
        """Return the query parameters, without what is default."""
        pairs: Pairs = [("c", self.catalog)] if self.catalog else []
        for number, turn in enumerate(self.turns):
            for key, value in (("i", turn.item), ("u", turn.upload), ("x", turn.text)):
                if value:
                    pairs.append((f"{key}{number}", value))
            pairs += [(f"l{number}", item) for item in turn.liked]
            pairs += [(f"d{number}", item) for item in turn.disliked]
            if turn.weight is not None:
                pairs.append((f"w{number}", str(turn.weight)))
        pairs += [("f", write_filter(field, value)) for field, value in self.filters]
        pairs += [("e", item) for item in self.excluded]
        pairs += [(key, value) for key, value in (("m", self.combiner), ("v", self.versus)) if value]
        return [*pairs, ("s", str(self.seed))] if self.seed else pairs

    @property
    def url(self) -> str:
        """Path and query that lead back to this state."""
        query = "&".join([f"{key}={_quoted(value)}" for key, value in self.pairs()])
        return f"/?{query}" if query else "/"

    @property
    def last(self) -> TurnState:
        """The newest turn, an empty one before the first."""
        return self.turns[-1] if self.turns else TurnState()

    def with_last(self, turn: TurnState) -> State:
        """Return the state with another last turn; an empty one is dropped."""
        turns = (*self.turns[:-1], *(() if turn.is_empty else (turn,)))
        return replace(self, turns=turns)

    def start_from(self, *, item: str = "", upload: str = "") -> State:
        """Return a new conversation that starts from a reference."""
        return replace(self, turns=(TurnState(item=item, upload=upload),), excluded=())

    def more_like(self, item: str) -> State:
        """Return the state with an item as reference of a further turn, or of a last one without text."""
        turn = TurnState(item=item)
        if self.turns and not self.last.text:
            return self.with_last(turn)
        return replace(self, turns=(*self.turns, turn)[-MAX_TURNS:])

    def judge(self, item: str, *, like: bool) -> State:
        """Return the state with an item liked or disliked in the last turn, or that taken back."""
        turn = self.last
        wanted, other = (turn.liked, turn.disliked) if like else (turn.disliked, turn.liked)
        wanted = tuple(one for one in wanted if one != item) if item in wanted else (*wanted, item)
        other = tuple(one for one in other if one != item)
        liked, disliked = (wanted, other) if like else (other, wanted)
        if not self.turns:
            return replace(self, turns=(TurnState(liked=liked, disliked=disliked),))
        return self.with_last(replace(turn, liked=liked, disliked=disliked))

    def exclude(self, item: str) -> State:
        """Return the state that never shows an item again."""
        return replace(self, excluded=tuple(dict.fromkeys((*self.excluded, item))))

    def back_to(self, number: int) -> State:
        """Return the conversation as it was after the first `number` turns."""
        return replace(self, turns=self.turns[:number])

    def without_turn(self, number: int) -> State:
        """Return the conversation without one turn; the later ones stay as they were."""
        return replace(self, turns=self.turns[:number] + self.turns[number + 1 :])

    def toggle_filter(self, field: str, value: str) -> State:
        """Return the state with one more filter, or one less where it was set."""
        own = (field, value)
        kept = tuple(pair for pair in self.filters if pair != own)
        return replace(self, filters=kept if own in self.filters else (*kept, own))

    def reshuffle(self) -> State:
        """Return the start page with other items."""
        return replace(self, turns=(), excluded=(), seed=self.seed % 9999 + 1)


def parse(pairs: Iterable[tuple[str, str]]) -> State:
    """Read query parameters; unknown ones are ignored.

    Empty values count as not given, so that a form may send all its fields. A text in `x` (without a number)
    is what was just typed: it becomes the text of the last turn, or a further turn where that has a text.

    Raises:
        BadStateError: a parameter has a value that no page of ours sends.
    """
    turns: dict[int, dict[str, list[str]]] = {}
    single = {"c": "", "m": "", "v": "", "s": "", "x": ""}
    filters: list[tuple[str, str]] = []
    excluded: list[str] = []
    characters = 0
    for key, value in pairs:
        characters += len(key) + len(value) + 2
        if characters > MAX_CHARACTERS:
            raise BadStateError(
                f"an address holds at most {MAX_CHARACTERS} characters of a conversation; begin a new one"
            )
        if not value or ("\x00" in value and key != "f"):
            continue
        if found := _TURN_KEY.fullmatch(key):
            turns.setdefault(int(found[2]), {}).setdefault(found[1], []).append(value)
        elif key == "f":
            filters.append(read_filter(value))
        elif key == "e":
            excluded.append(value)
        elif key in single:
            single[key] = value.strip()
    if len(filters) > MAX_FILTERS:
        raise BadStateError(f"a page has at most {MAX_FILTERS} filters; take some away")
    complete = tuple(turn for number in sorted(turns) if not (turn := _turn(turns[number])).is_empty)
    state = State(
        catalog=single["c"],
        turns=complete[:MAX_TURNS],
        filters=tuple(dict.fromkeys(filters)),
        excluded=tuple(dict.fromkeys(excluded)),
        combiner=single["m"],
        versus=single["v"],
        seed=_number(single["s"], 9999) if single["s"] else 0,
    )
    return _with_text(state, single["x"]) if single["x"] else state


# What separates, and what a browser changes in the fields of a form.
_ESCAPES = {"%": "%25", ":": "%3A", "\0": "%00", "\r": "%0D", "\n": "%0A"}
_ESCAPED = re.compile("|".join(_ESCAPES.values()), re.IGNORECASE)
_MEANT = {escaped: character for character, escaped in _ESCAPES.items()}


def write_filter(field: str, value: str) -> str:
    """Return a filter as one text, which `read_filter` reads, whatever field and value are."""
    written = "".join(_ESCAPES.get(character, character) for character in field)
    # The first colon separates, so that those of a value can stay as they are.
    rest = "".join(_ESCAPES[character] if character in "%\0\r\n" else character for character in value)
    return f"{written}:{rest}"


def read_filter(text: str) -> tuple[str, str]:
    """Return field and value of a filter.

    Raises:
        BadStateError: there is no field, or nothing that separates it from the value.
    """
    field, colon, value = text.partition(":")
    if not (field and colon):
        raise BadStateError(f"a filter is field:value, not {text[:80]!r}")
    return _unescape(field), _unescape(value)


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda found: _MEANT[found[0].upper()], text)


def _with_text(state: State, text: str) -> State:
    if state.turns and not state.last.text:
        return state.with_last(replace(state.last, text=text))
    return replace(state, turns=(*state.turns, TurnState(text=text))[-MAX_TURNS:])


def _turn(parts: dict[str, list[str]]) -> TurnState:
    upload = parts.get("u", [""])[0]
    if upload and not _UPLOAD.fullmatch(upload):
        raise BadStateError("this is not the name of an uploaded image")
    liked = tuple(dict.fromkeys(parts.get("l", [])))
    return TurnState(
        item="" if upload else parts.get("i", [""])[0],
        upload=upload,
        text=parts.get("x", [""])[0].strip(),
        liked=liked,
        disliked=tuple(item for item in dict.fromkeys(parts.get("d", [])) if item not in liked),
        weight=_number(parts["w"][0], 100) if "w" in parts else None,
    )


def _number(value: str, largest: int) -> int:
    if not value.isascii() or not value.isdigit() or int(value[:6]) > largest:
        raise BadStateError(f"{value[:20]!r} is not a number from 0 to {largest}")
    return int(value)
