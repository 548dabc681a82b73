"""The whole of a conversation, as it stands in the URL. Pure.

A turn is numbered by its place: `i0` item or `u0` upload (the reference), `x0` text, `l0` and `d0` liked and
disliked items (repeated), `w0` weight of the text from 0 to 100. For the whole conversation: `c` catalog,
`f` filters (field:value, repeated; a colon in a field is %3A, see `write_filter`), `e` excluded items, `m`
combiner, `v` the one to compare with, `s` seed of the start page, `h` language where the browser's is not
wanted. Addresses are relative, so that the page may be served below any path.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from urllib.parse import parse_qsl, urlencode

MAX_TURNS = 16
# What an address may hold: browsers, proxies and this page's own bound of a request's head take it.
MAX_CHARACTERS = 8_000
MAX_PARAMETERS = 600
MAX_FILTERS = 32
_TURN_KEY = re.compile(r"([iuxldw])(\d{1,2})")
_UPLOAD = re.compile(r"[0-9a-f]{32}")

Pairs = list[tuple[str, str]]
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z]{2,8})?")


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


@dataclass(frozen=True)
class State:
    """State of a conversation: everything that its address says."""

    catalog: str = ""
    turns: tuple[TurnState, ...] = ()
    filters: tuple[tuple[str, str], ...] = ()
    excluded: tuple[str, ...] = ()
    combiner: str = ""
    versus: str = ""
    seed: int = 0
    language: str = ""

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
        single = (
            ("m", self.combiner),
            ("v", self.versus),
            ("s", str(self.seed or "")),
            ("h", self.language),
        )
        return pairs + [(key, value) for key, value in single if value]

    @property
    def url(self) -> str:
        """Address that leads back to this state, from every page that is not in a folder of its own."""
        return f"./?{self.query}" if self.query else "./"

    @cached_property  # every form of a page has it
    def query(self) -> str:
        """The query of that address."""
        return urlencode(self.pairs())

    @property
    def last(self) -> TurnState:
        """The newest turn, an empty one before the first."""
        return self.turns[-1] if self.turns else TurnState()

    def with_last(self, turn: TurnState) -> State:
        """Return the state with another last turn; an empty one is dropped."""
        turns = (*self.turns[:-1], *(() if turn.is_empty else (turn,)))
        return replace(self, turns=turns)

    def refer(self, *, item: str = "", upload: str = "", text: str = "") -> State:
        """Return the state with a reference of a further turn, or of a last one without text."""
        turn = TurnState(item=item, upload=upload, text=text.strip())
        if self.turns and not self.last.text:
            return self.with_last(turn)
        return replace(self, turns=(*self.turns, turn)[-MAX_TURNS:])

    def say(self, text: str) -> State:
        """Return the state with a text for the last turn, or for a further one where that has a text."""
        if self.turns and not self.last.text:
            return self.with_last(replace(self.last, text=text))
        return replace(self, turns=(*self.turns, TurnState(text=text))[-MAX_TURNS:])

    @property
    def counting_from(self) -> int:
        """Index of the first turn that still counts: a turn with a reference begins anew."""
        return max((n for n, turn in enumerate(self.turns) if turn.item or turn.upload), default=0)

    @property
    def items(self) -> tuple[str, ...]:
        """Every item that the conversation names."""
        named = [item for turn in self.turns for item in (turn.item, *turn.liked, *turn.disliked) if item]
        return tuple(dict.fromkeys([*named, *self.excluded]))

    def without(self, items: Container[str] = (), uploads: Container[str] = ()) -> State:
        """Return the conversation without items and uploads that are no longer there; the words stay."""
        kept = [
            replace(
                turn,
                item="" if turn.item in items else turn.item,
                upload="" if turn.upload in uploads else turn.upload,
                liked=tuple(item for item in turn.liked if item not in items),
                disliked=tuple(item for item in turn.disliked if item not in items),
            )
            for turn in self.turns
        ]
        return replace(
            self,
            turns=tuple(turn for turn in kept if not turn.is_empty),
            excluded=tuple(item for item in self.excluded if item not in items),
        )

    def in_catalog(self, catalog: str) -> State:
        """Return what can be asked of another catalog as well: words and uploads."""
        turns = (TurnState(upload=turn.upload, text=turn.text) for turn in self.turns)
        return State(
            catalog=catalog,
            turns=tuple(turn for turn in turns if not turn.is_empty),
            combiner=self.combiner,
            versus=self.versus,
            language=self.language,
        )

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
        """Return the state that never shows an item, or shows it again."""
        kept = tuple(one for one in self.excluded if one != item)
        return replace(self, excluded=kept if item in self.excluded else (*kept, item))

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

    def without_filters(self) -> State:
        """Return the state without any filter."""
        return replace(self, filters=())

    def within(self, field: str, low: str, high: str) -> State:
        """Return the state with a field's values from `low` to `high`, of which an empty one is no bound."""
        kept = tuple(pair for pair in self.filters if pair[0] != field)
        return replace(self, filters=(*kept, (field, f"{low}..{high}")) if low or high else kept)

    def weigh(self, weight: int | None) -> State:
        """Return the state with another weight of the last turn's text; None lets the combiner choose."""
        return self.with_last(replace(self.last, weight=weight)) if self.turns else self

    def reshuffle(self) -> State:
        """Return the start page with other items."""
        return replace(self, turns=(), excluded=(), seed=self.seed % 9999 + 1)

    def edit(self, number: int, text: str) -> State:
        """Return the conversation with another text of one turn; a turn that asks for nothing then goes."""
        turns = list(self.turns)
        turns[number : number + 1] = [replace(turn, text=text) for turn in turns[number : number + 1]]
        return replace(self, turns=tuple(turn for turn in turns if not turn.is_empty))


def read_query(query: str) -> Pairs:
    """Return the parameters of an address, which are counted before any is read.

    Raises:
        BadStateError: a conversation has fewer.
    """
    _check_parameters(query.count("&") + 1)
    return parse_qsl(query, keep_blank_values=True)


def _check_parameters(count: int) -> None:
    if count > MAX_PARAMETERS:
        raise BadStateError(
            f"an address holds at most {MAX_PARAMETERS} parameters of a conversation; begin a new one"
        )


def _check_size(pairs: Sequence[tuple[str, str]]) -> None:
    """Refuse what is too much, before any of it is read."""
    _check_parameters(len(pairs))
    if sum(len(key) + len(value) + 2 for key, value in pairs) > MAX_CHARACTERS:
        raise BadStateError(
            f"an address holds at most {MAX_CHARACTERS} characters of a conversation; begin a new one"
        )
    if sum(key == "f" and value != "" for key, value in pairs) > MAX_FILTERS:
        raise BadStateError(f"a page has at most {MAX_FILTERS} filters; take some away")


def parse(pairs: Iterable[tuple[str, str]]) -> State:
    """Read query parameters; unknown ones are ignored.

    Empty values count as not given, so that a form may send all its fields. Of too many turns the newest are
    kept.

    Raises:
        BadStateError: a parameter has a value that no page of ours sends.
    """
    turns: dict[int, dict[str, list[str]]] = {}
    single = {"c": "", "m": "", "v": "", "s": "", "h": ""}
    filters: list[tuple[str, str]] = []
    excluded: list[str] = []
    pairs = list(pairs)
    _check_size(pairs)
    for key, value in pairs:
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
    complete = tuple(turn for number in sorted(turns) if not (turn := _turn(turns[number])).is_empty)
    if single["h"] and not _LANGUAGE.fullmatch(single["h"]):
        raise BadStateError(f"{single['h'][:20]!r} is not the name of a language")
    return State(
        catalog=single["c"],
        turns=complete[-MAX_TURNS:],
        filters=tuple(dict.fromkeys(filters)),
        excluded=tuple(dict.fromkeys(excluded)),
        combiner=single["m"],
        versus=single["v"] if single["v"] != single["m"] else "",
        seed=read_number(single["s"], 9999) if single["s"] else 0,
        language=single["h"],
    )


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
        weight=read_number(parts["w"][0], 100) if "w" in parts else None,
    )


def read_number(value: str, largest: int) -> int:
    """Return the number that a text is.

    Raises:
        BadStateError: it is none from 0 to `largest`.
    """
    if not value.isascii() or not value.isdigit() or int(value[:6]) > largest:
        raise BadStateError(f"{value[:20]!r} is not a number from 0 to {largest}")
    return int(value)
