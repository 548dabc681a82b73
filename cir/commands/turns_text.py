"""Turns as they are given to `cir search`: options for one, a file or further texts for more."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cir.failure import Failure
from cir.turn import Turn

_KEYS = {"image", "item", "text", "like", "dislike", "text_weight"}


def read_turns(path: Path) -> list[Turn]:
    """The turns of a JSON file: a list, oldest first, of objects with image, item, text, like, dislike
    (lists of ids) and text_weight. Image paths are relative to the file. Raises `Failure`."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(f"turns file {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise Failure(f"turns file {path} is not JSON: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Failure(f"turns file {path}: expected a list of objects")
    return [_turn(entry, number, path) for number, entry in enumerate(entries, start=1)]


def all_turns(earlier: Sequence[Turn], given: Turn, then: Sequence[str]) -> list[Turn]:
    """Turns of the file, the turn of the options unless it is empty, a turn for each further text.

    Raises `Failure` when there is nothing to search for.
    """
    is_given = any((given.image is not None, given.item, given.text, given.liked, given.disliked))
    turns = [*earlier, *([given] if is_given else []), *(Turn(text=text) for text in then)]
    if not turns:
        raise Failure("nothing to search for; give --image, --item, --text or --turns", exit_code=2)
    return turns


def _turn(entry: dict[str, object], number: int, path: Path) -> Turn:
    where = f"turns file {path}, turn {number}"
    if unknown := entry.keys() - _KEYS:
        raise Failure(f"{where}: unknown {', '.join(sorted(unknown))}; expected {', '.join(sorted(_KEYS))}")

    def text(key: str) -> str:
        value = entry.get(key, "")
        if not isinstance(value, str):
            raise Failure(f"{where}: {key} must be a string")
        return value

    def ids(key: str) -> list[str]:
        value = entry.get(key, [])
        if not isinstance(value, list) or not all(isinstance(element, str) for element in value):
            raise Failure(f"{where}: {key} must be a list of item ids")
        return value

    weight = entry.get("text_weight")
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, (int, float))):
        raise Failure(f"{where}: text_weight must be a number from 0 to 1")
    return Turn(
        image=path.parent / text("image") if text("image") else None,
        item=text("item"),
        text=text("text"),
        liked=ids("like"),
        disliked=ids("dislike"),
        text_weight=weight,
    )
