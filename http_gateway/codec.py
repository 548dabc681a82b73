"""Messages of the contract out of JSON as people write it; `json_writer.py` is the way back.

The JSON is that of protobuf, but for payload values, which are plain: null, true, 49.95, "red", lists of one
kind, {"datetime": "2024-05-01T12:00:00Z"} and {"latitude": 48.1, "longitude": 11.6}, and for enum values:
"keyword" is written for FIELD_TYPE_KEYWORD, and either is read. Paths of update masks are taken as they
stand, where protobuf's JSON would read `inStock` as `in_stock`.
Images and other bytes are base64, or a data URL; they are never fetched from elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from itertools import islice
from math import inf, isfinite
from typing import Any, cast

import numpy as np
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from cir.common.v1.payload_pb2 import GeoPoint
from cir.datetimes import format_datetime, parse_datetime
from cir.enum_names import short_names
from cir.fields import EXACT_IN_FLOAT, INT64
from cir.limits import is_text
from cir.update_mask import payload_field

VALUE = "cir.common.v1.Value"
PAYLOAD = "cir.common.v1.Payload"
MASK = "google.protobuf.FieldMask"
# What parts two paths, and what is within backticks.
_COMMA = re.compile(r",|`[^`]*+`?")
# Of both alphabets, as protobuf reads them; what is neither would be passed over.
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_PATH_PART = re.compile(r"(\w+)(?:\[(\d{1,6})\])?", re.ASCII)
#: Texts, and what begins a list or an object or parts two values, of one body.
MAX_PARTS = 200_000
_PART = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{,]', re.DOTALL)
# Numbers as JSON writes them: float() reads "1_0" and digits of other scripts besides.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
# Names that protobuf's JSON has for what JSON has no number for.
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity")
# Escapes of halves of surrogate pairs, two of which may be one character.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_CONSTANT = re.compile("NaN|Infinity")
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_INTEGERS: Mapping[int, range] = {
    FieldDescriptor.TYPE_INT32: range(-(2**31), 2**31),
    FieldDescriptor.TYPE_UINT32: range(2**32),
    FieldDescriptor.TYPE_INT64: INT64,
    FieldDescriptor.TYPE_UINT64: range(2**64),
}
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
# Names of what is wanted and what JSON has for it; numbers are taken as texts too.
_KINDS_IN: Mapping[int, tuple[str, Any]] = {
    FieldDescriptor.TYPE_STRING: ("text", (str,)),
    FieldDescriptor.TYPE_BYTES: ("base64", (str,)),
    FieldDescriptor.TYPE_BOOL: ("true or false", (bool,)),
    FieldDescriptor.TYPE_FLOAT: ("number", (int, float, str)),
    FieldDescriptor.TYPE_DOUBLE: ("number", (int, float, str)),
}
_BOOLS = {"true": True, "false": False}


class BadJsonError(ValueError):
    """JSON that means no request; `field` is the path of the part at fault, empty for the whole.

    Both can be written as UTF-8, whatever names they are made of.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message.encode(errors="backslashreplace").decode())
        self.field = field.encode(errors="backslashreplace").decode()


def read_json(content: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BadJsonError: no JSON in UTF-8, no object, a name twice in one, NaN or an infinity, many levels
            or parts, a text that is no Unicode.
    """
    _check_size(content)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise BadJsonError(f"the body is no UTF-8: byte {error.start} of it") from error
    try:
        value = json.loads(text, object_pairs_hook=_no_name_twice, parse_constant=_Constant) if text else {}
        if _HALF.search(text) or _CONSTANT.search(text):
            _check_single(value, "")
    except BadJsonError:
        raise
    except RecursionError as error:
        raise BadJsonError("the body has too many levels") from error
    except ValueError as error:
        raise BadJsonError(f"the body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadJsonError("the body is no JSON object")
    return value


def to_message(value: Mapping[str, Any], descriptor: Descriptor) -> Message:
    """Return the message that a JSON object writes.

    Raises:
        BadJsonError: it has fields or values that the message does not take.
    """
    message = GetMessageClass(descriptor)()
    try:
        written = _in(value, descriptor, "")
        # Of requests alone, never of what is in them: protobuf refuses lists for masks elsewhere.
        masks = [(one.name, written.pop(one.json_name, None)) for one in _masks(descriptor)]
        json_format.ParseDict(written, message)
        for name, paths in masks:
            getattr(message, name).paths.extend(paths or ())
    except BadJsonError:
        raise
    except RecursionError as error:
        raise BadJsonError("the body has too many levels") from error
    except (json_format.ParseError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise BadJsonError(f"the body is no {descriptor.name}: {error}") from error
    return message


def put_file(message: Message, path: str, content: bytes) -> None:
    """Set the field of bytes that a path names, such as `turns[0].reference.image`.

    Places of a list are those of the request, or the next one.

    Raises:
        BadJsonError: the path names no such field, or one that is set.
    """
    *owners, name = path.split(".")
    for owner in owners:
        found = _PATH_PART.fullmatch(owner)
        field = _field(cast(Descriptor, message.DESCRIPTOR), found[1]) if found else None
        inner = field.message_type if field is not None else None
        if found is None or field is None or inner is None or inner.GetOptions().map_entry:
            raise _no_file(path)
        if field.is_repeated is (found[2] is None):
            raise _no_file(path)
        value = getattr(message, field.name)
        message = _element(value, int(found[2]), path) if field.is_repeated else value
    field = _field(cast(Descriptor, message.DESCRIPTOR), name)
    if field is None or field.type != FieldDescriptor.TYPE_BYTES or field.is_repeated:
        raise _no_file(path)
    one_of = field.containing_oneof
    if message.WhichOneof(one_of.name) if one_of else getattr(message, field.name):
        raise BadJsonError(f"{path[:100]}: the request has a value for it already", path[:100])
    setattr(message, field.name, content)


def _no_file(path: str) -> BadJsonError:
    return BadJsonError(f"no file can be {path[:100]!r}: that is no field of bytes", path[:100])


def _element(values: Any, number: int, path: str) -> Message:
    if number > len(values):
        raise BadJsonError(f"{path[:100]}: the request has {len(values)} before it", path[:100])
    element: Message = values.add() if number == len(values) else values[number]
    return element


def query_values(
    pairs: Iterable[tuple[str, str]], descriptor: Descriptor, taken: Iterable[str]
) -> dict[str, Any]:
    """Return the JSON object that the parameters of a query write: single values and repeated ones.

    Raises:
        BadJsonError: a parameter that is no such field, is given twice, or is in the path as well.
    """
    values: dict[str, Any] = {}
    for name, text in pairs:
        field = _field(descriptor, name)
        if field is None or field.message_type is not None or field.name in taken:
            raise BadJsonError(f"there is no parameter {name[:100]!r}", name[:100])
        value: object = _BOOLS.get(text, text) if field.type == FieldDescriptor.TYPE_BOOL else text
        if field.is_repeated:
            values.setdefault(field.json_name, []).append(value)
        elif field.json_name in values:
            raise BadJsonError(f"{name} is given twice", name)
        else:
            values[field.json_name] = value
    return values


def _check_size(content: bytes) -> None:
    """Refuse JSON of too many parts before any is made an object of."""
    # No less than there are, since texts hold such bytes as well; two quotes are a text.
    if sum(map(content.count, (b",", b"[", b"{"))) + content.count(b'"') // 2 <= MAX_PARTS:
        return
    if next(islice(_PART.finditer(content), MAX_PARTS, None), None) is not None:
        raise BadJsonError(f"the body has more than {MAX_PARTS} texts, values, lists and objects")


@dataclass(frozen=True, slots=True)
class _Constant:
    """NaN or an infinity, which Python reads and JSON has no number for."""

    name: str


def _check_single(value: object, path: str) -> None:
    """Refuse what UTF-8 cannot write, half of a surrogate pair, escaped, and what is no number of JSON."""
    match value:
        case str() if not is_text(value):
            raise BadJsonError(f"{path} is no valid Unicode", path)
        case _Constant(name):
            raise BadJsonError(f"{path}: {name} is no number of JSON".removeprefix(": "), path)
        case list():
            for number, one in enumerate(value):
                _check_single(one, f"{path}[{number}]")
        case dict():
            for name, one in value.items():
                place = f"{path}.{name[:100]}".lstrip(".")
                _check_single(name, place)
                _check_single(one, place)


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise BadJsonError(f"{twice[:100]!r} is given twice", twice[:100])
    return values


def _field(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    found = descriptor.fields_by_name.get(name)
    return found or next((field for field in descriptor.fields if field.json_name == name), None)


def _in(value: Any, descriptor: Descriptor, path: str) -> Any:
    """Return JSON with plain payload values as protobuf's own."""
    if descriptor.full_name == VALUE:
        return _value_in(value, path)
    if descriptor.full_name == PAYLOAD:
        if not isinstance(value, dict):
            raise BadJsonError(f"{path} is no object", path)
        return {"fields": {name: _value_in(one, f"{path}.{name}") for name, one in value.items()}}
    if descriptor.full_name == MASK:
        return _mask_in(value, path)
    if descriptor.full_name.startswith("google."):
        return value
    if not isinstance(value, dict):
        raise BadJsonError(f"{path} is no object", path)
    written: dict[str, Any] = {}
    one_ofs: dict[str, str] = {}
    for name, one in value.items():
        field, place = _field(descriptor, name), f"{path}.{name[:100]}".lstrip(".")
        if field is None:
            raise BadJsonError(f"there is no field {place!r}; {_known(name, descriptor)}", place)
        if field.json_name in written:
            raise BadJsonError(f"{place} is given twice", place)
        one_of = field.containing_oneof
        if one_of is not None and one is not None:
            other = one_ofs.setdefault(one_of.name, name)
            if other != name:
                raise BadJsonError(f"{place} is given beside {other!r}; give one of the two", place)
        written[field.json_name] = _field_in(one, field, place)
    return written


@cache
def _masks(descriptor: Descriptor) -> Sequence[FieldDescriptor]:
    inner = ((field, field.message_type) for field in descriptor.fields)
    return [field for field, kind in inner if kind is not None and kind.full_name == MASK]


def _mask_in(value: Any, path: str) -> list[str]:
    """Return the paths of an update mask: a list of them, or one text with commas between them."""
    paths = list(_parted(value)) if isinstance(value, str) and value else value
    if not isinstance(paths, list) or not paths or not all(isinstance(one, str) for one in paths):
        raise BadJsonError(
            f"{path} is no list of paths and no text with commas between them; paths are payload, "
            "payload.fields.NAME and image; without any, leave it out",
            path,
        )
    for one in paths:
        try:
            payload_field(one)
        except ValueError as error:
            raise BadJsonError(f"{path} {error}", path) from error
    return paths


def _parted(text: str) -> Iterator[str]:
    start = 0
    for found in _COMMA.finditer(text):
        if found[0] == ",":
            yield text[start : found.start()]
            start = found.end()
    yield text[start:]


def _known(name: str, descriptor: Descriptor) -> str:
    """Return the end of a message on a field that is unknown: what is spelled alike, else what there is."""
    names = {field.json_name.lower(): field.json_name for field in descriptor.fields}
    near = get_close_matches(name[:100].replace("_", "").lower(), names)
    if near:
        return f"did you mean {' or '.join(repr(names[one]) for one in near)}?"
    return f"fields here: {', '.join(names.values())}" if names else "there are none here"


def _field_in(value: Any, field: FieldDescriptor, path: str) -> Any:
    if value is None:
        return value
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        to = field.message_type.fields_by_name["value"]
        if not isinstance(value, dict):
            raise BadJsonError(f"{path} is no object", path)
        return {key: _single_in(one, to, f"{path}.{key}") for key, one in value.items()}
    if field.is_repeated:
        if not isinstance(value, list):
            raise BadJsonError(f"{path} is no list", path)
        return [_single_in(one, field, f"{path}[{number}]") for number, one in enumerate(value)]
    return _single_in(value, field, path)


def _single_in(value: Any, field: FieldDescriptor, path: str) -> Any:
    if field.message_type is not None:
        return _in(value, field.message_type, path)
    if field.enum_type is not None:
        return _enum_in(value, field.enum_type, path)
    if field.type in _INTEGERS:
        return _integer_in(value, _INTEGERS[field.type], path)
    wanted, types = _KINDS_IN[field.type]
    if not isinstance(value, types) or isinstance(value, bool) is not (types == (bool,)):
        raise BadJsonError(f"{path} is no {wanted}", path)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _base64(value, path)
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        _check_number(value, _LARGEST_FLOAT if field.type == FieldDescriptor.TYPE_FLOAT else inf, path)
    return value


def _check_number(value: float | str, largest: float, path: str) -> None:
    if isinstance(value, str):
        if value in _NO_NUMBERS:
            return
        if not _NUMBER.fullmatch(value):
            raise BadJsonError(f"{path} is no number", path)
    try:
        number = float(value)
    except OverflowError:  # an integer
        number = inf
    if not isfinite(number) or abs(number) > largest:
        raise BadJsonError(_too_large(path), path)


def _integer_in(value: Any, within: range, path: str) -> int:
    """Return an integer, which may be written as a text or with a fraction of nothing."""
    if (
        _INTEGER.fullmatch(value)
        if isinstance(value, str)
        else isinstance(value, float) and value.is_integer()
    ):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadJsonError(f"{path} is no integer", path)
    if value not in within:
        raise BadJsonError(f"{path} is not from {within.start} to {within.stop - 1}", path)
    return value


def _too_large(path: str) -> str:
    return f"{path} is too large a number"


def _shown(names: Iterable[str]) -> str:
    """List the names of an enum but the one for nothing."""
    return ", ".join(name for name in names if name != "unspecified")


def _enum_in(name: Any, enum: EnumDescriptor, path: str) -> str | int:
    """Return what protobuf reads for the short or the whole name of an enum value, or for its number."""
    names = short_names(enum)
    if isinstance(name, int) and not isinstance(name, bool):
        return _integer_in(name, _INTEGERS[FieldDescriptor.TYPE_INT32], path)
    if not isinstance(name, str):
        raise BadJsonError(f"{path} is no name of a value; it is one of {_shown(names)}", path)
    if name not in names and name not in enum.values_by_name:
        raise BadJsonError(f"{path} is {name[:100]!r}; it is one of {_shown(names)}", path)
    return names.get(name, name)


def _base64(text: str, path: str) -> str:
    """Return the base64 of bytes, which a data URL may hold."""
    head, comma, _ = text[:200].partition(",")
    if head.startswith("data:") and comma:
        if not head.endswith(";base64"):
            raise BadJsonError(f"{path} is a data URL without base64", path)
        text = text[len(head) + 1 :]
    if not _BASE64.fullmatch(text) or len(text.rstrip("=")) % 4 == 1:
        wrong = "an address" if "://" in text[:20] else "no base64"
        raise BadJsonError(f"{path} is {wrong}; bytes are sent as base64 or a data URL", path)
    return text


def _value_in(value: Any, path: str) -> dict[str, Any]:
    match value:
        case None:
            return {"nullValue": None}
        case bool():
            return {"boolValue": value}
        case int() if value in INT64:
            return {"integerValue": str(value)}
        case int():
            raise BadJsonError(f"{path} does not fit 64 bits", path)
        case float() if not isfinite(value):
            raise BadJsonError(_too_large(path), path)
        case float():
            return {"floatValue": value}
        case str():
            return {"stringValue": value}
        case list():
            values = [_value_in(one, f"{path}[{number}]") for number, one in enumerate(value)]
            return {"listValue": {"values": _one_kind(values, path)}}
        case {"datetime": str(moment), **others} if not others:
            return {"datetimeValue": _moment(moment, path)}
        case {"latitude": int() | float(), "longitude": int() | float(), **others} if not others:
            return {"geoValue": _in(value, GeoPoint.DESCRIPTOR, path)}
    raise BadJsonError(
        f'{path} is no payload value: null, true, a number, a text, {{"datetime": …}}, '
        '{"latitude": …, "longitude": …}, or a list of one kind',
        path,
    )


def _moment(text: str, path: str) -> str:
    """Return a moment as protobuf reads it, which knows fewer forms than the other doors do."""
    try:
        return format_datetime(parse_datetime(text))
    except ValueError as error:
        raise BadJsonError(f"{path}: {error}", path) from error


def _one_kind(values: list[dict[str, Any]], path: str) -> list[dict[str, Any]]:
    """Return the values of a list, integers as floats where floats are among them."""
    if not any("floatValue" in value for value in values):
        return values
    floats = []
    for number, value in enumerate(values):
        whole = int(value.get("integerValue", 0))
        if abs(whole) > EXACT_IN_FLOAT:
            place = f"{path}[{number}]"
            raise BadJsonError(f"{place} is too large an integer for a list of numbers with fractions", place)
        floats.append({"floatValue": float(whole)} if "integerValue" in value else value)
    return floats
