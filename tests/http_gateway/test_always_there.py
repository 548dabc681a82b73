"""Fields without presence are in every answer, and the description says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from http_gateway import reference
from http_gateway.codec import to_message
from http_gateway.json_writer import from_message
from http_gateway.rules import routes
from tests.random_messages import random_message

SCHEMAS = json.loads(reference.openapi_text())["components"]["schemas"]


def answered() -> Iterator[Descriptor]:
    """Messages of answers whose JSON is by their fields."""
    left, seen = [one.response for one in routes()], set()
    while left:
        kind = left.pop()
        if (
            kind.full_name in seen
            or kind.full_name.startswith("google.")
            or kind.name in ("Value", "Payload")
        ):
            continue
        seen.add(kind.full_name)
        left += [field.message_type for field in kind.fields if field.message_type is not None]
        if not kind.GetOptions().map_entry:
            yield kind


@pytest.mark.parametrize("kind", list(answered()), ids=lambda kind: kind.name)
@given(seed=st.integers(0, 2**32))
def test_what_has_no_presence_is_always_written_as_protobuf_does(kind: Descriptor, seed: int) -> None:
    empty = GetMessageClass(kind)()
    written = from_message(empty)
    expected = json_format.MessageToDict(empty, always_print_fields_with_no_presence=True)
    enums = {
        field.json_name for field in kind.fields if field.enum_type is not None and not field.is_repeated
    }
    assert {name: one for name, one in written.items() if name not in enums} == {
        name: one for name, one in expected.items() if name not in enums
    }
    assert written.keys() == expected.keys()
    assert SCHEMAS[kind.name].get("required", []) == list(written)
    assert to_message(written, kind) == empty
    drawn: Any = random_message(GetMessageClass(kind)(), Random(seed))
    try:
        found = from_message(drawn)
    except ValueError:  # times and durations beyond ten thousand years
        return
    assert found.keys() == {
        field.json_name for field in kind.fields if not field.has_presence or drawn.HasField(field.name)
    }


def test_nothing_is_required_of_a_request_but_what_it_holds() -> None:
    for name, schema in SCHEMAS.items():
        if name.endswith(("Request", "Input")):
            assert "required" not in schema, name
    assert SCHEMAS["BatchUpsertItemsRequest"]["properties"]["items"]["items"]["$ref"].endswith("/ItemWrite")
    assert SCHEMAS["ItemWrite"]["properties"]["item"]["$ref"].endswith("/ItemInput")
    assert SCHEMAS["SearchResult"]["properties"]["item"]["$ref"].endswith("/Item")
