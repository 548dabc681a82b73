"""HTTP rules: every call has one, and paths hold what resource names hold."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from http_gateway import reference
from http_gateway.rules import BadPathError, routes, services


def test_every_call_that_is_no_stream_is_over_http() -> None:
    there = {(route.service, route.method) for route in routes()}
    calls = {
        (name, method.name)
        for name, service in services().items()
        for method in service.methods
        if not method.client_streaming and not method.server_streaming
    }
    assert there == calls


def test_no_address_means_two_calls() -> None:
    for route in routes():
        path = re.sub(
            r"\{\w+=([^}]*)\}", lambda found: found[1].replace("**", "x").replace("*", "x"), route.template
        )
        assert (
            next(one for one in routes() if one.verb == route.verb and one.match(path) is not None) is route
        )


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_an_item_is_found_whatever_its_id(item_id: str) -> None:
    get = next(route for route in routes() if route.method == "GetItem")
    path = f"/v1/catalogs/shop/items/{quote(item_id, safe='')}"
    assert get.match(path) == {"name": f"catalogs/shop/items/{item_id}"}


def test_a_path_is_utf_8() -> None:
    get = next(route for route in routes() if route.method == "GetItem")
    with pytest.raises(BadPathError):
        get.match("/v1/catalogs/shop/items/%FF")


def test_the_description_tells_every_route_and_each_of_its_references_is_there() -> None:
    described = json.loads(reference.openapi_text())
    assert described["openapi"] == "3.1.0"
    operations = [
        operation["operationId"] for path in described["paths"].values() for operation in path.values()
    ]
    assert len(set(operations)) == len(operations) == len(routes()) + 1

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if "$ref" in value else []
            return own + [one for inner in value.values() for one in references(inner)]
        return [one for inner in value for one in references(inner)] if isinstance(value, list) else []

    for name in references(described):
        place = described
        for part in name.removeprefix("#/").split("/"):
            place = place[part]
    assert all(operation["summary"] for path in described["paths"].values() for operation in path.values())


def test_the_page_of_the_description_needs_nothing_from_elsewhere() -> None:
    page = reference.page()
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    for route in routes():
        assert route.verb in page
