"""Names that a user wrote, of payload fields above all: they are taken as they stand everywhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from cir.search.v1 import catalog_pb2, search_pb2
from cir.update_mask import payload_path
from http_gateway.codec import BadJsonError, read_json, to_message
from http_gateway.json_writer import from_message
from http_gateway.rules import Route, routes
from search_service.catalog_requests import parse_updates
from search_service.settings import SearchSettings
from tests.random_messages import filled

# Of the cases and signs that JSON of protobuf has rules for, and any others.
NAMES = st.text(st.sampled_from("aAbB_1,.` $@[]"), min_size=1, max_size=6) | st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20
)
UPDATE = catalog_pb2.BatchUpdateItemsRequest.DESCRIPTOR


@given(
    stored=st.dictionaries(NAMES, st.integers(0, 9), max_size=4),
    payload=st.dictionaries(NAMES, st.integers(10, 19), max_size=4),
    names=st.lists(NAMES, min_size=1, max_size=3),
    as_text=st.booleans(),
)
def test_every_field_is_changed_by_its_mask_and_no_other(
    stored: dict[str, int], payload: dict[str, int], names: list[str], as_text: bool
) -> None:
    names += [*list(stored)[:1], *list(payload)[:1]]
    paths = [payload_path(name) for name in names]
    body = {"items": [{"id": "a", "payload": payload}], "updateMask": ",".join(paths) if as_text else paths}
    message: Any = to_message(read_json(json.dumps(body).encode()), UPDATE)
    assert list(message.update_mask.paths) == paths
    (update,), failed = parse_updates(message.items, message.update_mask, SearchSettings())
    assert not failed
    after = update.mask.apply(stored, update.payload)
    assert after == {name: value for name, value in stored.items() if name not in names} | {
        name: value for name, value in payload.items() if name in names
    }


@pytest.mark.parametrize(
    "mask",
    [
        *(
            "",
            "*",
            "Payload",
            "payload.fields.",
            "payload.fields.a b",
            "payload.fields.`a",
            "image,",
            ",",
            "payload,id",
        ),
        *(
            "payload, image",
            "payload.fields.``",
            "payload.fields.`\x01`",
            "payload.fields.\ud800",
            "imageUri",
        ),
        *([], [""], ["payload,image"], ["payload", None], [["payload"]], {"paths": ["payload"]}, 1, True),
    ],
)
@pytest.mark.parametrize("name", ["updateMask", "update_mask"])
def test_masks_that_name_nothing_are_refused(mask: object, name: str) -> None:
    with pytest.raises(BadJsonError, match=r"update_?[mM]ask ") as refused:
        to_message({"items": [{"id": "a"}], name: mask}, UPDATE)
    assert refused.value.field == name
    str(refused.value).encode()


def test_no_mask_is_none() -> None:
    for body in ({}, {"updateMask": None}):
        message: Any = to_message(body, UPDATE)
        assert list(message.update_mask.paths) == []


@pytest.mark.parametrize("route", [one for one in routes() if one.has_body], ids=lambda one: one.template)
@given(name=NAMES)
def test_texts_and_names_of_a_request_arrive_as_they_stand(route: Route, name: str) -> None:
    message: Any = GetMessageClass(route.request)()
    message.ParseFromString(filled(route.request, name, 2))
    if "update_mask" in route.request.fields_by_name:
        message.update_mask.paths[:] = [payload_path(name), "image"]
    written = from_message(message)
    read = to_message(read_json(json.dumps(written).encode()), route.request)
    # Values at the bottom have no kind, and come back as null.
    assert from_message(read) == written


@given(NAMES)
def test_names_in_filters_orders_facets_and_schemas_are_literal(name: str) -> None:
    condition = {"field": name, "values": [name]}
    search: Any = to_message(
        {"filter": {"must": [{"matchAny": condition}]}, "excludeItemIds": [name]},
        search_pb2.SearchRequest.DESCRIPTOR,
    )
    found = search.filter.must[0].match_any
    assert [found.field, found.values[0].string_value, *search.exclude_item_ids] == [name] * 3
    facets: Any = to_message({"fields": [name]}, catalog_pb2.FacetItemsRequest.DESCRIPTOR)
    assert list(facets.fields) == [name]
    created: Any = to_message({"schema": {name: "keyword"}}, catalog_pb2.CreateCatalogRequest.DESCRIPTOR)
    assert list(created.schema) == [name]
