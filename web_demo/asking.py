"""From where a conversation stands to what the search service is asked. Pure but for reading uploads."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cir.turn import Turn
from web_demo.state import State


class UploadGone(LookupError):
    """The address names an uploaded picture that was deleted."""


def turns_of(state: State, read_upload: Callable[[str], bytes | None]) -> list[Turn]:
    """The turns, oldest first. Raises `UploadGone`."""
    turns: list[Turn] = []
    for turn in state.turns:
        image = None
        if turn.upload:
            image = read_upload(turn.upload)
            if image is None:
                raise UploadGone
        turns.append(
            Turn(
                image=image,
                item=turn.item,
                text=turn.text,
                liked=turn.liked,
                disliked=turn.disliked,
                text_weight=None if turn.weight is None else turn.weight / 100,
            )
        )
    return turns


def where_of(state: State, schema: Mapping[str, str]) -> dict[str, object] | None:
    """The filters, each field's values as alternatives; fields that the catalog has not are passed over."""
    where: dict[str, object] = {}
    for field, value in state.filters:
        kind = schema.get(field)
        if kind == "bool":
            where[field] = value == "true"
        elif kind == "keyword":
            known = where.setdefault(field, [])
            assert isinstance(known, list)  # noqa: S101  # made in the line above
            known.append(value)
    return where or None
