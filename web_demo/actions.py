"""Buttons and fields of a page, which change its conversation. Pure.

Every form of a page holds the whole conversation in one hidden field, `q`: the query of its address. What is
clicked or typed comes beside it, and the answer is a redirect to the address of what follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from web_demo.state import BadStateError, Pairs, State, parse, read_filter, read_number, read_query

Fields = Mapping[str, str]


def _place(text: str, state: State) -> int:
    """Return the index of a turn."""
    number = read_number(text, 99)
    if number >= len(state.turns):
        raise BadStateError(f"there is no step {number + 1}")
    return number


def _edit(state: State, value: str, fields: Fields) -> State:
    return state.edit(_place(value, state), fields.get("text", "").strip())


def _weigh(state: State, value: str, fields: Fields) -> State:
    return state.weigh(read_number(fields.get("weight", ""), 100) if value == "set" else None)


def _within(state: State, field: str, fields: Fields) -> State:
    return state.within(field, fields.get("low", "").strip(), fields.get("high", "").strip())


def _methods(state: State, _: str, fields: Fields) -> State:
    combiner, versus = fields.get("combiner", ""), fields.get("versus", "")
    return replace(state, combiner=combiner, versus=versus if versus != combiner else "")


def _catalog(state: State, catalog: str, _: Fields) -> State:
    return state if catalog == state.catalog else state.in_catalog(catalog)


ACTIONS: Mapping[str, Callable[[State, str, Fields], State]] = {
    "like": lambda state, item, _: state.judge(item, like=True),
    "dislike": lambda state, item, _: state.judge(item, like=False),
    "hide": lambda state, item, _: state.exclude(item),
    "from": lambda state, item, _: state.refer(item=item),
    "try": lambda state, text, _: state.say(text),
    "toggle": lambda state, text, _: state.toggle_filter(*read_filter(text)),
    "within": _within,
    "clear": lambda state, _, __: state.without_filters(),
    "drop": lambda state, number, _: state.without_turn(_place(number, state)),
    "edit": _edit,
    "weigh": _weigh,
    "methods": _methods,
    "others": lambda state, _, __: state.reshuffle(),
    "catalog": _catalog,
    "language": lambda state, language, _: replace(state, language=language),
}
_FIELDS = frozenset({"x", "text", "weight", "low", "high", "combiner", "versus"})


def act(pairs: Iterable[tuple[str, str]], *, upload: str = "") -> tuple[State, bool]:
    """Return the conversation that query parameters or the fields of a form lead to.

    True where something was clicked, typed or sent: the address is then another one. `upload` is the name of
    an image that was sent with them, the reference of the words in `x`.

    Raises:
        BadStateError: a parameter has a value that no page of ours sends.
    """
    kept: list[tuple[str, str]] = []
    clicked: list[tuple[str, str]] = []
    fields: dict[str, str] = {}
    moved = bool(upload)
    sent: Pairs = []
    for key, value in pairs:
        value = value.replace("\x00", "") if key != "q" else value
        if key == "q":
            if sent:
                raise BadStateError("a form holds one conversation, and this one two")
            sent = read_query(value.removeprefix("?"))
            kept += sent
            moved = True
        elif key in ACTIONS:
            clicked.append((key, value))
        elif key in _FIELDS:
            fields[key] = value
        else:
            kept.append((key, value))
    state = parse(kept)
    for key, value in clicked:
        if value:
            state = ACTIONS[key](state, value, fields)
    text = fields.get("x", "").strip()
    if upload:
        state = state.refer(upload=upload, text=text)
    elif text and not clicked:
        state = state.say(text)
    return parse(state.pairs()), moved or bool(clicked) or "x" in fields
