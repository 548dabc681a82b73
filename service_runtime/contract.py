"""Requests as the contract describes them: the message of each method, and its fields."""

from __future__ import annotations

import re

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor

_PART = re.compile(r"(\w+)(?:\[\d+\])?", re.ASCII)


def request_of(method: str) -> Descriptor | None:
    """Return the message that a method ("/package.Service/Method") takes, None for an unknown method."""
    service, _, name = method.removeprefix("/").rpartition("/")
    try:
        found = descriptor_pool.Default().FindServiceByName(service)
        return found.methods_by_name[name].input_type
    except KeyError:
        return None


def named_part(request: Descriptor | None, path: str) -> str:
    """Return as much of a field's path ("turns[2].text") as the contract itself names.

    What follows, such as the name of a payload's field, is from whoever sent the request.
    """
    named: list[str] = []
    message = request
    for part in path.split("."):
        match = _PART.fullmatch(part)
        if message is None or match is None or match[1] not in message.fields_by_name:
            break
        named.append(part)
        kind = message.fields_by_name[match[1]].message_type
        message = None if kind is None or kind.GetOptions().map_entry else kind
    return ".".join(named)
