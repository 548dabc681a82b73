"""Requests as the contract describes them: the message of each method, its fields, its largest size."""

from __future__ import annotations

import re
from functools import cache

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor

#: Largest message of the methods that are open to all: health and reflection.
OPEN_BYTES = 4 * 1024
#: Largest message of methods that take names, numbers and page tokens, such as Get and List.
SMALL_BYTES = 64 * 1024
#: Largest message of methods that also take lists of names or filters, but no images, vectors or payloads.
MEDIUM_BYTES = 4 * 1024 * 1024
#: Prefixes of methods that need no key.
OPEN_METHODS = ("/grpc.health.", "/grpc.reflection.")

_PART = re.compile(r"(\w+)((?:\[\d+\])?)", re.ASCII)
_PAYLOAD = "cir.common.v1.Payload"
_ITEM_WRITE = "cir.search.v1.ItemWrite"


@cache
def request_of(method: str) -> Descriptor | None:
    """Return the message that a method ("/package.Service/Method") takes, None for an unknown method."""
    service, _, name = method.removeprefix("/").rpartition("/")
    try:
        found = descriptor_pool.Default().FindServiceByName(service)
        return found.methods_by_name[name].input_type
    except KeyError:
        return None


def holds_items_alone(request: Descriptor | None) -> bool:
    """Return whether all messages inside a request are items to write, each of which can be refused alone."""
    inner = [field.message_type for field in request.fields] if request is not None else []
    names = {message.full_name for message in inner if message is not None}
    return names == {_ITEM_WRITE}


def named_part(request: Descriptor | None, path: str) -> str:
    """Return as much of a field's path ("turns[2].text") as the contract itself names.

    What follows, such as the name of a payload's field, is from whoever sent the request.
    """
    return ".".join(f"{field.name}{place}" for field, place in _named(request, path))


def json_path(request: Descriptor | None, path: str) -> str:
    """Return a field's path with the names that JSON has for the contract's: "turns[2].textWeight".

    What the contract does not name, such as a payload's field, stays as it is.
    """
    named = _named(request, path)
    others = path.split(".")[len(named) :]
    return ".".join([*(f"{field.json_name}{place}" for field, place in named), *others])


def _named(request: Descriptor | None, path: str) -> list[tuple[FieldDescriptor, str]]:
    """Return the fields at the start of a path that the contract names, each with its place in a list."""
    named: list[tuple[FieldDescriptor, str]] = []
    message = request
    for part in path.split("."):
        match = _PART.fullmatch(part)
        if message is None or match is None or match[1] not in message.fields_by_name:
            break
        field = message.fields_by_name[match[1]]
        named.append((field, match[2]))
        kind = field.message_type
        message = None if kind is None or kind.GetOptions().map_entry else kind
    return named


def largest_message(method: str, request: Descriptor | None, max_bytes: int) -> int:
    """Return the bytes that a message of a method may have, by what the contract lets it hold.

    `max_bytes` is for those with images, vectors or payloads, and a bound of all.
    """
    if method.startswith(OPEN_METHODS):
        return min(OPEN_BYTES, max_bytes)
    if request is None or _holds_content(request, set()):
        return max_bytes
    plain = all(field.message_type is None and not field.is_repeated for field in request.fields)
    return min(SMALL_BYTES if plain else MEDIUM_BYTES, max_bytes)


def _holds_content(kind: Descriptor, seen: set[str]) -> bool:
    """Return whether a message holds bytes or payloads, at any depth."""
    if kind.full_name == _PAYLOAD:
        return True
    seen.add(kind.full_name)
    return any(
        field.type == FieldDescriptor.TYPE_BYTES
        or (
            field.message_type is not None
            and field.message_type.full_name not in seen
            and _holds_content(field.message_type, seen)
        )
        for field in kind.fields
    )
