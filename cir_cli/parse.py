"""Values, filters, turns and payload fields as they are written on a command line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from cir.datetimes import parse_datetime
from cir.filters import Condition, Filter, GeoRadius, MatchAny, MatchText, Range
from cir.payload import GeoPoint, Scalar, Value
from cir.turns import Turn
from cir_cli.errors import Failure, WrongUsage

_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


# A comma inside a value, a space at its end and a backslash before either are written with one before them.
_MARK = re.compile(r"\\([\\,\s])")
_PIECE = re.compile(r"\\[\\,\s]|.", re.DOTALL)


def marked(text: str, *, commas: bool = True) -> str:
    """A text as `elements` reads it, with `commas` as one element."""
    out = text.replace("\\", "\\\\")
    if commas:
        out = out.replace(",", "\\,")
    if out[-1:].isspace():
        out = f"{out[:-1]}\\{out[-1]}"
    return f"\\{out}" if out[:1].isspace() else out


def elements(text: str) -> list[str]:
    """The parts between commas; a comma inside a value is written `\\,`."""
    parts = [""]
    for piece in _PIECE.findall(text):
        if piece == ",":
            parts.append("")
        else:
            parts[-1] += piece[-1]
    return parts


def _stripped(text: str) -> str:
    """A text without outer spaces, save for marked ones."""
    left = text.lstrip()
    out = left.rstrip()
    marks = len(out) - len(out.rstrip("\\"))
    return left[: len(out) + marks % 2]


def _unmarked(text: str) -> str:
    return _MARK.sub(r"\1", text)


def scalar(text: str, kind: str) -> str | int | bool:
    """A value of a keyword, text, integer or bool field."""
    if kind == "integer":
        return integer(text)
    if kind == "bool":
        if text.lower() not in _BOOLS:
            raise ValueError(f"{text!r} is not true or false")
        return _BOOLS[text.lower()]
    return text


def integer(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def number(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def moment(text: str) -> datetime:
    """A point in time; in UTC where the text names no offset."""
    return parse_datetime(text)


def numbers(text: str, count: int, expected: str) -> list[float]:
    """So many numbers between commas; `expected` says what they mean."""
    parts = text.split(",")
    if len(parts) != count:
        raise ValueError(f"a geo field takes {expected}")
    return [number(part) for part in parts]


_FORM = re.compile(r"(?P<field>.+?)(?P<operator>!=|<=|>=|=|<|>)(?P<value>.*)", re.DOTALL)
_BOUNDS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
# The longer of two that begin alike comes first.
_OPERATORS = ("!=", "<=", ">=", "=", "<", ">")


def _of_field(text: str, schema: Mapping[str, str], operators: Sequence[str]) -> tuple[str, str, str] | None:
    """Return field, operator and value of a text that begins with a field of the schema.

    Of several the longest is taken, so a field's name may hold what looks like an operator.
    """
    for field in sorted(schema, key=len, reverse=True):
        if text.startswith(field):
            rest = text.removeprefix(field).lstrip()
            for operator in operators:
                if rest.startswith(operator):
                    return field, operator, _stripped(rest.removeprefix(operator))
    return None


def parse_filters(texts: Sequence[str], schema: Mapping[str, str]) -> Filter | None:
    """Filter that demands all of `texts`; None without any.

    Raises:
        Failure: a text that cannot be read; it names the text.
    """
    if not texts:
        return None
    must: list[Condition] = []
    must_not: list[Condition] = []
    for text in texts:
        if (read := _of_field(text, schema, _OPERATORS)) is not None:
            field, operator, value = read
        elif (match := _FORM.fullmatch(text)) is not None:
            field, operator, value = match["field"].strip(), match["operator"], _stripped(match["value"])
        else:
            raise WrongUsage(f"filter {text!r}: expected FIELD=VALUE, or one of != < <= > >= in place of =")
        if field not in schema:
            known = ", ".join(schema) or "none"
            raise WrongUsage(f"filter {text!r}: the catalog has no field {field!r}; its fields: {known}")
        try:
            if operator in _BOUNDS:
                bound = _bound(value, schema[field])
                must.append(Range(field, **{_BOUNDS[operator]: bound}))
            else:
                (must if operator == "=" else must_not).append(_equal(field, value, schema[field]))
        except ValueError as error:
            raise WrongUsage(f"filter {text!r}: {error}") from error
    return Filter(must=must, must_not=must_not)


def _equal(field: str, text: str, kind: str) -> Condition:
    if kind == "text":
        return MatchText(field, _unmarked(text))
    if kind == "geo":
        latitude, longitude, metres = numbers(text, 3, "LATITUDE,LONGITUDE,METRES")
        return GeoRadius(field, GeoPoint(latitude, longitude), metres)
    parts = elements(text)
    if kind == "float":
        ranges = [Range(field, gte=bound, lte=bound) for bound in map(number, parts)]
        return ranges[0] if len(ranges) == 1 else Filter(should=ranges)
    if kind == "datetime":
        for part in parts:
            moment(part)  # refused here; what a date equals the service says
    return MatchAny(field, [scalar(part, kind) for part in parts])


def _bound(text: str, kind: str) -> float | datetime:
    if kind == "integer":
        return integer(text)
    if kind == "float":
        return number(text)
    if kind == "datetime":
        return moment(text)
    raise ValueError(f"a {kind} field has no order; use = or !=")


_KEYS = {"image", "item", "text", "like", "dislike", "text_weight"}


def read_turns(path: Path) -> list[Turn]:
    """The turns of a JSON file: a list, oldest first, of objects with image, item, text, like, dislike
    (lists of ids) and text_weight. Image paths are relative to the file.

    Raises:
        Failure: it cannot be read.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(f"turns file {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise Failure(f"turns file {path} is not JSON: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Failure(f"turns file {path}: expected a list of objects")
    return [_turn(entry, number, path) for number, entry in enumerate(entries, start=1)]


def all_turns(earlier: Sequence[Turn], given: Turn, then: Sequence[str]) -> list[Turn]:
    """Turns of the file, the turn of the options unless it is empty, a turn for each further text.

    Raises:
        Failure: there is nothing to search for, or nothing that the text's weight weighs.
    """
    reference = (given.image is not None, given.item, given.features is not None)
    is_given = any((*reference, given.text, given.liked, given.disliked))
    turns = [*earlier, *([given] if is_given else []), *(Turn(text=text) for text in then)]
    if not turns:
        raise WrongUsage("nothing to search for; give --image, --item, --features, --text or --turns")
    if given.text_weight is not None and not given.text:
        raise WrongUsage("--text-weight is the weight of --text, which is not given")
    if given.text_weight is not None and not (earlier or any(reference)):
        raise WrongUsage(
            "--text-weight lies between an image and --text, and there is no image; give --image, --item, "
            "--features or --turns too"
        )
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


def parse_fields(texts: Sequence[str], schema: Mapping[str, str]) -> dict[str, Value]:
    """Values by field.

    Raises:
        Failure: a text that cannot be read; it names the text.
    """
    fields: dict[str, Value] = {}
    for text in texts:
        field, separator, value = _of_field(text, schema, ("=",)) or text.partition("=")
        field = field if field in schema else field.strip()
        if not separator or not field:
            raise WrongUsage(f"--set {text!r}: expected FIELD=VALUE")
        if field not in schema:
            known = ", ".join(schema) or "none"
            raise WrongUsage(
                f"--set {text!r}: the catalog has no field {field!r}; its fields: {known} (--payload stores "
                "others, which cannot be filtered by)"
            )
        if field in fields:
            raise WrongUsage(f"--set names {field!r} twice; for several values write {field}=ONE,TWO")
        try:
            fields[field] = _value(_stripped(value), schema[field])
        except ValueError as error:
            raise WrongUsage(f"--set {text!r}: {error}") from error
    return fields


def parse_payload(text: str) -> dict[str, object]:
    """A whole payload from a JSON object; {"lat": ..., "lon": ...} is a place, and so is the form of --json.

    Raises:
        Failure: it cannot be read.
    """
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongUsage(f"--payload is no JSON: {error}") from error
    if not isinstance(read, dict):
        raise WrongUsage('--payload: expected a JSON object, such as {"colour": "red"}')
    return {name: _with_places(value) for name, value in read.items()}


def _value(text: str, kind: str) -> Value:
    if kind == "geo":
        return GeoPoint(*numbers(text, 2, "LATITUDE,LONGITUDE"))
    if kind == "text":
        return _unmarked(text)
    values = [_scalar(part, kind) for part in elements(text)]
    return values[0] if len(values) == 1 else values


def _scalar(text: str, kind: str) -> Scalar:
    if kind == "float":
        return number(text)
    return moment(text) if kind == "datetime" else scalar(text, kind)


def _with_places(value: object) -> object:
    if isinstance(value, list):
        return [_with_places(element) for element in value]
    if isinstance(value, dict) and value.keys() in _PLACES:
        latitude, longitude = (value[key] for key in sorted(value))
        if all(type(degrees) in (int, float) for degrees in (latitude, longitude)):
            return GeoPoint(latitude, longitude)
    return value


_PLACES = ({"lat", "lon"}, {"latitude", "longitude"})
