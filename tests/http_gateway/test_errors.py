"""Refusals as JSON: the names of fields, and warnings of services that are away."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from http_gateway.errors import Service
from http_gateway.json_writer import from_message
from http_gateway.rules import routes
from service_runtime.contract import json_path, named_part

REQUESTS = {route.request.full_name: route.request for route in routes() if route.request.fields}
# Of payloads and maps: some as the contract's own.
NAMES = st.sampled_from(["page_size", "turns", "fields", "a_b"])
VALUES = {
    FieldDescriptor.TYPE_STRING: "x",
    FieldDescriptor.TYPE_BYTES: b"x",
    FieldDescriptor.TYPE_BOOL: True,
}


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


@st.composite
def places(draw: st.DrawFn) -> tuple[Any, str]:
    """A request in which one field is set, and the field's path in the contract."""
    message: Any = GetMessageClass(REQUESTS[draw(st.sampled_from(sorted(REQUESTS)))])()
    inner, path = message, list[str]()
    for _ in range(8):
        inner.SetInParent()
        if inner.DESCRIPTOR.full_name.startswith("google.") or inner.DESCRIPTOR.name == "Value":
            break
        field: Any = draw(st.sampled_from(list(inner.DESCRIPTOR.fields)))
        values: Any = getattr(inner, field.name)
        kind = field.message_type
        if inner.DESCRIPTOR.name == "Payload":
            path.append(draw(NAMES))
            values[path[-1]].integer_value = 1
            break
        path.append(f"{field.name}[0]" if field.is_repeated and not _is_map(field) else field.name)
        if _is_map(field):
            path.append(draw(NAMES))
            values[path[-1]] = 1
            break
        if kind is not None:
            inner = values.add() if field.is_repeated else values
        elif field.is_repeated:
            values.append(VALUES.get(field.type, 1))
            break
        else:
            setattr(inner, field.name, VALUES.get(field.type, 1))
            break
    return message, ".".join(path)


@given(places())
def test_a_field_s_path_leads_to_it_in_the_json_of_the_request(place: tuple[Any, str]) -> None:
    message, path = place
    value: Any = from_message(message)
    for part in json_path(message.DESCRIPTOR, path).split("."):
        name, _, number = part.rstrip("]").partition("[")
        value = value[name]
        if number:
            value = value[int(number)]


@pytest.mark.parametrize("path", ["", "no_such", "turns[x].text_weight", "page_size.no_such", "turns[0]..."])
def test_what_the_contract_does_not_name_stays(path: str) -> None:
    request = REQUESTS["cir.search.v1.SearchRequest"]
    known = named_part(request, path)
    assert json_path(request, path) == json_path(request, known) + path[len(known) :]
    assert json_path(None, path) == path


def test_a_service_that_is_away_is_logged_once_a_minute() -> None:
    now = 5.0
    service = Service("search", "search.example:50050", clock=lambda: now)
    away, late = [
        grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="refused")
        for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    ]
    with capture_logs() as logs:
        service.status_of(late)
        for now in (5.0, 6.0, 64.9, 65.0, 66.0):  # noqa: B007  # the clock reads it
            assert "search.example" not in str(service.status_of(away))
    assert [line["address"] for line in logs] == ["search.example:50050"] * 2
