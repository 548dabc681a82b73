"""Random messages of any type, drawn from values at the edges of what their fields can hold."""

from __future__ import annotations

import os
import random
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tests.robustness import wire

REQUESTS = int(os.environ.get("CIR_RANDOM_REQUESTS", "1200"))
# One request at a time is never too much: RESOURCE_EXHAUSTED would be an answer that is too long to send.
FAULTS = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED)

_INTEGERS = (0, 1, -1, 2, 7, 100, 2**31 - 1, -(2**31))
_LONG = (*_INTEGERS, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e38, -1e38, 5e-324, float("nan"), float("inf"), float("-inf"))
_TEXTS = (
    *("", "a", "catalogs/shop", "catalogs/", "item-1", "colour", "price", "weight", "added", "red", "sum"),
    *(
        "catalogs/shop/items/item-1",
        "catalogs/shop/versions/v0001",
        "../../etc",
        "\x00",
        "\n",
        'a"b',
        "é" * 40,
    ),
    *("🧥", "x" * 3000, "catalogs/" + "a" * 64, " ", "2026-01-01T00:00:00Z"),
)
_BYTES = (b"", b"\x00", b"not an image", b"\x00\x00\x80\x3f" * 16, b"\xff" * 64, b"\x00" * 64)


def random_message(message: Any, source: random.Random, depth: int = 0) -> Any:
    """Fill a message in place, deeper levels more sparsely; returns it."""
    for field in message.DESCRIPTOR.fields:
        if source.random() < min(0.9, 0.35 + 0.15 * depth):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _fill_map(getattr(message, field.name), field, source, depth)
        elif field.is_repeated:
            values = getattr(message, field.name)
            for _ in range(source.choice((1, 1, 2, 5))):
                if field.message_type is not None:
                    random_message(values.add(), source, depth + 1)
                else:
                    values.append(_scalar(field, source))
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            random_message(getattr(message, field.name), source, depth + 1)
        else:
            setattr(message, field.name, _scalar(field, source))
    return message


def _fill_map(entries: Any, field: Any, source: random.Random, depth: int) -> None:
    key, value = field.message_type.fields
    name = _scalar(key, source)
    if value.message_type is not None:
        random_message(entries[name], source, depth + 1)
    else:
        entries[name] = _scalar(value, source)


def _scalar(field: FieldDescriptor, source: random.Random) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return source.choice(_BYTES if field.type == FieldDescriptor.TYPE_BYTES else _TEXTS)
        case FieldDescriptor.CPPTYPE_BOOL:
            return source.random() < 0.5
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return source.choice(_FLOATS)
        case FieldDescriptor.CPPTYPE_INT64:
            return source.choice(_LONG)
        case FieldDescriptor.CPPTYPE_UINT64 | FieldDescriptor.CPPTYPE_UINT32:
            return abs(source.choice(_INTEGERS))
        case FieldDescriptor.CPPTYPE_ENUM:
            return source.choice((0, 1, 2, 77))
    return source.choice(_INTEGERS)


def filled(kind: Descriptor, text: str, depth: int = 0) -> bytes:
    """Serialise a message of this kind with `text` in each of its texts, bytes and keys."""
    out = b""
    for field in kind.fields:
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            out += wire.field(field.number, text.encode())
        elif field.message_type is not None and depth < 6:
            out += wire.field(field.number, filled(field.message_type, text, depth + 1))
    return out
