"""JSON as people write it, and messages of the contract.

The JSON is that of protobuf, but for payload values, which are plain: null, true, 49.95, "red", lists of one
kind, {"datetime": "2024-05-01T12:00:00Z"} and {"latitude": 48.1, "longitude": 11.6}. Images and other bytes
are base64, or a data URL; they are never fetched from elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_VALUE = "cir.common.v1.Value"
_PAYLOAD = "cir.common.v1.Payload"
# Of both alphabets, as protobuf reads them; what is neither would be passed over.
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_INT64 = range(-(2**63), 2**63)
_BOOLS = {"true": True, "false": False}


class BadJsonError(ValueError):
    """JSON that means no request; `field` is the path of the part at fault, empty for the whole."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


def read_json(content: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BadJsonError: no JSON in UTF-8, no object, a name twice in one, NaN or an infinity, many levels.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise BadJsonError(f"the body is no UTF-8: byte {error.start} of it") from error
    try:
        value = (
            json.loads(text, object_pairs_hook=_no_name_twice, parse_constant=_refuse_constant)
            if text
            else {}
        )
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
        json_format.ParseDict(_in(value, descriptor, ""), message)
    except BadJsonError:
        raise
    except RecursionError as error:
        raise BadJsonError("the body has too many levels") from error
    except (json_format.ParseError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise BadJsonError(f"the body is no {descriptor.name}: {error}") from error
    return message


def from_message(message: Message) -> dict[str, Any]:
    """Return a message as a JSON object."""
    written: dict[str, Any] = json_format.MessageToDict(message)
    result: dict[str, Any] = _out(written, cast(Descriptor, message.DESCRIPTOR))
    return result


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


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadJsonError(f"{twice[:100]!r} is given twice", twice[:100])
    return values


def _refuse_constant(name: str) -> None:
    raise BadJsonError(f"{name} is no number of JSON")


def _field(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    found = descriptor.fields_by_name.get(name)
    return found or next((field for field in descriptor.fields if field.json_name == name), None)


def _in(value: Any, descriptor: Descriptor, path: str) -> Any:
    """Return JSON with plain payload values as protobuf's own."""
    if descriptor.full_name == _VALUE:
        return _value_in(value, path)
    if descriptor.full_name == _PAYLOAD:
        if not isinstance(value, dict):
            raise BadJsonError(f"{path} is no object", path)
        return {"fields": {name: _value_in(one, f"{path}.{name}") for name, one in value.items()}}
    if not isinstance(value, dict) or descriptor.full_name.startswith("google."):
        return value
    return {
        name: _field_in(one, _field(descriptor, name), f"{path}.{name}".lstrip("."))
        for name, one in value.items()
    }


def _field_in(value: Any, field: FieldDescriptor | None, path: str) -> Any:
    if field is None or value is None:
        return value
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return value
    if field.is_repeated and isinstance(value, list):
        return [_single_in(one, field, f"{path}[{number}]") for number, one in enumerate(value)]
    return _single_in(value, field, path)


def _single_in(value: Any, field: FieldDescriptor, path: str) -> Any:
    if field.message_type is not None:
        return _in(value, field.message_type, path)
    if field.type == FieldDescriptor.TYPE_BYTES and isinstance(value, str):
        return _base64(value, path)
    return value


def _base64(text: str, path: str) -> str:
    """Return the base64 of bytes, which a data URL may hold."""
    head, comma, _ = text[:200].partition(",")
    if head.startswith("data:") and comma:
        if not head.endswith(";base64"):
            raise BadJsonError(f"{path} is a data URL without base64", path)
        text = text[len(head) + 1 :]
    if not _BASE64.fullmatch(text):
        wrong = "an address" if "://" in text[:20] else "no base64"
        raise BadJsonError(f"{path} is {wrong}; bytes are sent as base64 or a data URL", path)
    return text


def _value_in(value: Any, path: str) -> dict[str, Any]:
    match value:
        case None:
            return {"nullValue": None}
        case bool():
            return {"boolValue": value}
        case int() if value in _INT64:
            return {"integerValue": str(value)}
        case int():
            raise BadJsonError(f"{path} does not fit 64 bits", path)
        case float():
            return {"floatValue": value}
        case str():
            return {"stringValue": value}
        case list():
            values = [_value_in(one, f"{path}[{number}]") for number, one in enumerate(value)]
            return {"listValue": {"values": _one_kind(values)}}
        case {"datetime": str(moment), **others} if not others:
            return {"datetimeValue": moment}
        case {"latitude": int() | float(), "longitude": int() | float(), **others} if not others:
            return {"geoValue": value}
    raise BadJsonError(
        f'{path} is no payload value: null, true, a number, a text, {{"datetime": …}}, '
        '{"latitude": …, "longitude": …}, or a list of one kind',
        path,
    )


def _one_kind(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the values of a list, integers as floats where floats are among them."""
    if any("floatValue" in value for value in values):
        return [
            {"floatValue": float(value["integerValue"])} if "integerValue" in value else value
            for value in values
        ]
    return values


def _out(value: Any, descriptor: Descriptor) -> Any:
    """Return protobuf's own JSON with payload values as plain ones."""
    if descriptor.full_name == _VALUE:
        return _value_out(value)
    if descriptor.full_name == _PAYLOAD:
        return {name: _value_out(one) for name, one in value.get("fields", {}).items()}
    if not isinstance(value, dict) or descriptor.full_name.startswith("google."):
        return value
    written = {}
    for name, one in value.items():
        field = _field(descriptor, name)
        inner = field.message_type if field is not None else None
        if field is None or inner is None:
            written[name] = one
        elif inner.GetOptions().map_entry:
            to = inner.fields_by_name["value"].message_type
            written[name] = {key: _out(each, to) for key, each in one.items()} if to is not None else one
        elif isinstance(one, list):
            written[name] = [_out(each, inner) for each in one]
        else:
            written[name] = _out(one, inner)
    return written


_PLAIN: Mapping[str, Callable[[Any], Any]] = {
    "nullValue": lambda value: None,
    "integerValue": int,
    "datetimeValue": lambda value: {"datetime": value},
    "geoValue": lambda value: {"latitude": 0.0, "longitude": 0.0} | value,
    "listValue": lambda value: [_value_out(one) for one in value.get("values", [])],
}


def _value_out(value: Mapping[str, Any]) -> Any:
    for kind, content in value.items():
        return _PLAIN.get(kind, lambda plain: plain)(content)
    return None
