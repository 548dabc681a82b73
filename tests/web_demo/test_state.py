"""A conversation and its address are the same thing."""

from __future__ import annotations

import re
from contextlib import ExitStack
from html import escape
from html.parser import HTMLParser
from unittest.mock import patch
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

import web_demo.state as conversation
from web_demo.actions import act
from web_demo.state import (
    MAX_CHARACTERS,
    MAX_FILTERS,
    MAX_PARAMETERS,
    BadStateError,
    Pairs,
    State,
    TurnState,
    parse,
    read_query,
)

IDS = st.text(min_size=1, max_size=12).filter(lambda text: "\x00" not in text and "\ud800" not in text)
TEXTS = (
    st.text(alphabet=st.characters(codec="utf-8"), max_size=20)
    .map(str.strip)
    .filter(lambda text: "\x00" not in text)
)
# Whatever a payload may hold, and what could be taken for a separator.
SEPARATORS = [
    "g:colour",
    ":",
    "::",
    "a%3Ab",
    "100%",
    "%",
    "%25",
    "a&f=b:c",
    "a+b",
    "#",
    "?",
    "%3a",
    "é:\u200b",
]
FIELDS = st.sampled_from(SEPARATORS) | st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=12
)
VALUES = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    [*SEPARATORS, "https://a/?b=c&d#e", "%0A", "%2525", "", " ", "\r\n", "\n", "\0", "\u2028"]
)
FILTERS = st.lists(st.tuples(FIELDS, VALUES), max_size=4, unique=True).map(tuple)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda text: "\x00" not in text)


@st.composite
def turns(draw: st.DrawFn) -> TurnState:
    reference = draw(st.sampled_from(["item", "upload", ""]))
    liked = draw(st.lists(NAMES, max_size=3, unique=True))
    disliked = [name for name in draw(st.lists(NAMES, max_size=3, unique=True)) if name not in liked]
    return TurnState(
        item=draw(NAMES) if reference == "item" else "",
        upload=draw(st.from_regex(r"[0-9a-f]{32}", fullmatch=True)) if reference == "upload" else "",
        text=draw(TEXTS),
        liked=tuple(liked),
        disliked=tuple(disliked),
        weight=draw(st.none() | st.integers(0, 100)),
    )


STATES = st.builds(
    State,
    catalog=st.sampled_from(["", "shop", "a-b_c"]),
    turns=st.lists(turns().filter(lambda turn: not turn.is_empty), max_size=4).map(tuple),
    filters=FILTERS,
    excluded=st.lists(NAMES, max_size=3, unique=True).map(tuple),
    combiner=st.sampled_from(["", "sum", "combiner/garments"]),
    versus=st.sampled_from(["", "slerp"]),
    seed=st.integers(0, 9999),
    language=st.sampled_from(["", "zh", "zh-Hant"]),
)


@given(STATES)
def test_an_address_leads_back_to_its_conversation(state: State) -> None:
    assert parse(state.pairs()) == state
    assert parse(parse_qsl(state.query)) == state


class Form(HTMLParser):
    """The fields of a page's form, as a browser reads and sends them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.pairs: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        # The standard: line ends become CRLF when a form is sent, and no attribute holds a zero.
        value = re.sub(r"\r\n?|\n", "\r\n", (given.get("value") or "").replace("\0", "\ufffd"))
        self.pairs.append((given.get("name") or "", value))


@given(FILTERS)
def test_filters_survive_addresses_and_forms(filters: tuple[tuple[str, str], ...]) -> None:
    state = State(catalog="shop", filters=filters)
    assert parse(parse_qsl(state.query)) == state
    fields = "".join(f'<input name="{key}" value="{escape(value)}">' for key, value in state.pairs())
    assert parse(Form(fields).pairs) == state
    for field, value in filters:
        without = parse(parse_qsl(state.toggle_filter(field, value).query))
        assert without.filters == tuple(pair for pair in filters if pair != (field, value))


def test_addresses_from_before_mean_what_they_meant() -> None:
    for text in ("colour:red", "colour:a:b", "100%:x", "size:50%", "kind:%41"):
        field, _, value = text.partition(":")
        assert parse([("f", text)]).filters == ((field, value),)


@given(STATES, NAMES, st.booleans())
def test_judging_twice_takes_it_back(state: State, item: str, like: bool) -> None:
    once = state.judge(item, like=like)
    assert (item in once.last.liked, item in once.last.disliked) == (
        (item in state.last.liked) != like if like else False,
        (item in state.last.disliked) != (not like) if not like else False,
    ) or item in (*state.last.liked, *state.last.disliked)
    fresh = State(turns=(TurnState(text="x"),))
    assert fresh.judge(item, like=like).judge(item, like=like) == fresh
    other = fresh.judge(item, like=like).judge(item, like=not like)
    assert (item in other.last.liked) is not like


@given(STATES, st.integers(0, 5))
def test_going_back_keeps_what_came_before(state: State, number: int) -> None:
    assert state.back_to(number).turns == state.turns[:number]
    if number < len(state.turns):
        assert state.without_turn(number).turns == state.turns[:number] + state.turns[number + 1 :]


@given(STATES, NAMES)
def test_filters_are_set_and_taken_away(state: State, value: str) -> None:
    fresh = State(filters=tuple(pair for pair in state.filters if pair != ("kind", value)))
    assert fresh.toggle_filter("kind", value).toggle_filter("kind", value) == fresh
    assert ("kind", value) in fresh.toggle_filter("kind", value).filters


def test_what_is_said_changes_the_reference_or_goes_on() -> None:
    first, moved = act([("i0", "a"), ("x", "in red")])
    assert moved
    assert first.turns == (TurnState(item="a", text="in red"),)
    second, _ = act([*first.pairs(), ("x", "longer")])
    assert second.turns == (TurnState(item="a", text="in red"), TurnState(text="longer"))
    assert second.refer(item="b").turns[-1] == TurnState(item="b")
    assert parse([("i0", "a")]).refer(item="b").turns == (TurnState(item="b"),)
    assert act(second.pairs()) == (second, False)


def test_the_newest_turns_are_kept() -> None:
    state = parse([(f"x{number}", f"{number}") for number in range(20)])
    assert [turn.text for turn in state.turns] == [str(number) for number in range(4, 20)]
    assert state.say("more").turns[-1].text == "more"
    assert len(state.say("more").turns) == 16


@given(STATES, st.sampled_from(["like", "dislike", "hide"]), NAMES)
def test_what_is_pressed_is_done_to_the_conversation_that_the_form_holds(
    state: State, name: str, item: str
) -> None:
    after, moved = act([("q", state.query), (name, item)])
    assert moved
    assert (
        after
        == {
            "like": state.judge(item, like=True),
            "dislike": state.judge(item, like=False),
            "hide": state.exclude(item),
        }[name]
    )


@given(STATES, st.sets(NAMES, max_size=3))
def test_what_is_gone_is_left_out_and_nothing_else(state: State, gone: set[str]) -> None:
    named = gone | set(state.items[:2])
    left = state.without(named)
    assert not set(left.items) & named
    assert set(left.items) == set(state.items) - named
    assert [turn.text for turn in left.turns if turn.text] == [turn.text for turn in state.turns if turn.text]
    assert state.without() == state


@pytest.mark.parametrize(
    "pairs",
    [
        [("u0", "../../etc/passwd")],
        [("u0", "A" * 32)],
        [("w0", "101")],
        [("w0", "-1")],
        [("w0", "５")],
        [("s", "nine")],
        [("f", "kind")],
        [("f", ":red")],
        [("h", "../x")],
    ],
)
def test_addresses_that_no_page_sends_are_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(BadStateError):
        parse(pairs)


@given(st.lists(st.tuples(st.text(max_size=4), st.text(max_size=8)), max_size=8))
def test_whatever_comes_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    try:
        state = parse(pairs)
    except BadStateError:
        return
    assert parse(state.pairs()) == state


@pytest.mark.parametrize(
    "pairs",
    [
        [("f", f"colour:{number}") for number in range(33)],
        [("e", f"{number}") for number in range(2000)],
        [("l0", f"{number}") for number in range(2000)],
        [("t1", "a" * 8001)],
        [(f"x{number}", "a" * 100) for number in range(99)],
    ],
)
def test_what_would_make_a_page_of_megabytes_is_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(BadStateError, match=r"begin a new one|take some away"):
        parse(pairs)
    assert parse(pairs[:1] if len(pairs) > 1 else [("t1", "a" * 7000)]) is not None


KEYS = st.sampled_from(["f", "e", "l0", "d3", "x0", "i1", "w2", "u0", "other", "c", "h"])
SOME = st.lists(st.tuples(KEYS, st.text(max_size=9)), max_size=20)
TOO_MUCH = st.one_of(
    st.builds(
        lambda pair, more: [pair] * (MAX_PARAMETERS + more), st.tuples(KEYS, NAMES), st.integers(1, 99)
    ),
    st.builds(lambda value, more: [("f", value)] * (MAX_FILTERS + more), NAMES, st.integers(1, 99)),
    st.builds(lambda key, letter: [(key, letter * MAX_CHARACTERS)], KEYS, st.sampled_from("a%:é")),
)


@given(SOME, TOO_MUCH, SOME)
def test_what_is_too_much_is_counted_before_any_of_it_is_read(
    before: Pairs, much: Pairs, after: Pairs
) -> None:
    with ExitStack() as stack:
        readers = [
            stack.enter_context(patch.object(conversation, name, side_effect=AssertionError(name)))
            for name in ("read_filter", "read_number", "_turn", "_TURN_KEY", "State")
        ]
        with pytest.raises(BadStateError, match=r"begin a new one|take some away"):
            parse([*before, *much, *after])
        assert not any(reader.mock_calls for reader in readers)


@given(st.integers(0, 3 * MAX_PARAMETERS), st.sampled_from(["a", "f=a:b", "l0=%41", ""]))
def test_the_parameters_of_an_address_are_counted_before_any_is_read(count: int, one: str) -> None:
    query = "&".join([one] * count)
    with patch.object(conversation, "parse_qsl", wraps=parse_qsl) as reader:
        try:
            assert len(read_query(query)) <= count
        except BadStateError:
            assert count > MAX_PARAMETERS
            assert not reader.mock_calls
        else:
            assert count <= MAX_PARAMETERS


@pytest.mark.parametrize("query", ["a&" * MAX_PARAMETERS, "f=a:b&" * (MAX_FILTERS + 1)])
def test_a_form_holds_one_conversation_of_a_size_that_an_address_has(query: str) -> None:
    with pytest.raises(BadStateError):
        act([("q", query), ("x", "red")])
    with pytest.raises(BadStateError, match="one conversation"):
        act([("q", "x0=red"), ("q", "x0=blue")])
