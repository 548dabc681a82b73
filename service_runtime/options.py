"""Fields of option models: default, bounds and help text in one place, for libraries and the command line."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any


def option(
    default: Any,
    *,
    help: str,
    min: float | None = None,
    max: float | None = None,
    above: float | None = None,
    repr: bool = True,
) -> Any:
    """Return a dataclass field whose metadata hold its help text and its bounds.

    `min` and `max` are allowed values, `above` is not. Other fields are named in backquotes in a help text.
    """
    known = {"help": help, "min": min, "max": max, "above": above}
    metadata = {key: value for key, value in known.items() if value is not None}
    return field(default=default, metadata=metadata, repr=repr)


def check_options(options: Any, error: type[ValueError] = ValueError) -> None:
    """Raise `error`, naming the field, for a value of a dataclass that is out of its bounds."""
    for one in fields(options):
        value, bounds = getattr(options, one.name), one.metadata
        if "min" in bounds and not value >= bounds["min"]:
            raise error(f"`{one.name}` is {value}; expected at least {bounds['min']}")
        if "max" in bounds and not value <= bounds["max"]:
            raise error(f"`{one.name}` is {value}; expected at most {bounds['max']}")
        if "above" in bounds and not value > bounds["above"]:
            raise error(f"`{one.name}` is {value}; expected more than {bounds['above']}")
