"""JSON of the gateway: what is written comes back, and what means nothing is refused."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.common.v1.payload_pb2 import Payload
from cir.search.v1 import catalog_pb2, search_pb2
from http_gateway.codec import BadJsonError, from_message, query_values, read_json, to_message

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
SCALARS = [
    TEXTS,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.builds(lambda day: {"datetime": f"2024-05-{day:02d}T12:00:00Z"}, st.integers(1, 31)),
    st.builds(lambda lat, lon: {"latitude": lat, "longitude": lon}, st.floats(-90, 90), st.floats(-180, 180)),
]
VALUES = st.one_of(st.none(), *SCALARS, *(st.lists(scalar, max_size=3) for scalar in SCALARS))


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_payloads_are_plain_and_come_back(payload: dict[str, Any]) -> None:
    content = json.dumps({"id": "a", "payload": payload}).encode()
    message = to_message(read_json(content), catalog_pb2.Item.DESCRIPTOR)
    assert isinstance(message, catalog_pb2.Item)
    back = json.loads(json.dumps(from_message(message)))
    assert back.get("payload", {}) == payload
    for name, value in payload.items():
        assert isinstance(back["payload"][name], type(value))


def test_numbers_keep_their_kind() -> None:
    message = to_message({"a": 1, "b": 1.0, "c": [1, 2.5]}, Payload.DESCRIPTOR)
    assert isinstance(message, Payload)
    assert message.fields["a"].WhichOneof("kind") == "integer_value"
    assert message.fields["b"].WhichOneof("kind") == "float_value"
    assert [one.float_value for one in message.fields["c"].list_value.values] == [1.0, 2.5]


@pytest.mark.parametrize("image", ["aGVsbG8=", "data:image/jpeg;base64,aGVsbG8="])
def test_images_are_base64_or_data_urls(image: str) -> None:
    request = {"catalog": "shop", "turns": [{"reference": {"image": image}, "text": "in red"}]}
    message = to_message(request, search_pb2.SearchRequest.DESCRIPTOR)
    assert isinstance(message, search_pb2.SearchRequest)
    assert message.turns[0].reference.image == b"hello"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
        (b"{", "no JSON"),
        (b'{"limit": NaN}', "NaN is no number"),
        (b'{"limit": Infinity}', "Infinity is no number"),
        (b'{"limit": 1, "limit": 2}', "'limit' is given twice"),
        (b'{"turns": [{"text": "a", "text": "b"}]}', "'text' is given twice"),
        (b"\xff{}", "no UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "no UTF-8"),
        (b'{"x":' * 100_000, "levels"),
        (b"[" * 100_000, "levels"),
        (b'{"limit": ' + b"9" * 5000 + b"}", "no JSON"),
    ],
)
def test_bodies_that_mean_nothing_are_refused(body: bytes, words: str) -> None:
    with pytest.raises(BadJsonError, match=words):
        read_json(body)


def test_an_empty_body_is_an_empty_request() -> None:
    assert read_json(b"") == {}


FILTERS: dict[str, Any] = {"must": []}
for _ in range(200):
    FILTERS = {"must": [{"filter": FILTERS}]}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"unknown": 1}, ""),
        ({"limit": "many"}, ""),
        ({"limit": 1.5}, ""),
        ({"limit": 2**40}, ""),
        ({"turns": {"text": "a"}}, ""),
        ({"turns": "a"}, ""),
        ({"turns": [1]}, ""),
        ({"exact": "yes"}, ""),
        ({"turns": [{"reference": {"image": "https://shop.example/a.jpg"}}]}, "turns[0].reference.image"),
        ({"turns": [{"reference": {"image": "data:image/png,abc"}}]}, "turns[0].reference.image"),
        ({"turns": [{"reference": {"image": "***"}}]}, "turns[0].reference.image"),
        ({"filter": FILTERS}, ""),
        (
            {"filter": {"must": [{"matchAny": {"field": "a", "values": [{}]}}]}},
            "filter.must[0].matchAny.values[0]",
        ),
        ({"filter": {"must": [{"range": {"field": "a", "gt": 2**70}}]}}, "filter.must[0].range.gt"),
        ({"feedback": "NONE_SUCH"}, ""),
    ],
)
def test_requests_that_the_contract_does_not_take_are_refused(request_: dict[str, Any], field: str) -> None:
    with pytest.raises(BadJsonError) as refused:
        to_message(request_, search_pb2.SearchRequest.DESCRIPTOR)
    assert refused.value.field == field
    assert str(refused.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["turns", "text", "reference", "image", "itemId", "filter", "must", "matchAny", "values", "field",
             "limit", "features", "rows", "data", "payload", "range", "gt", "geoRadius", "centre", "x"]
        ),
        inner,
        max_size=3,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["turns", "filter", "limit", "combiner", "x"]), JSON, max_size=3))
def test_whatever_comes_is_a_request_or_refused(value: dict[str, Any]) -> None:
    if any(isinstance(one, float) and not math.isfinite(one) for one in value.values()):
        return
    with suppress(BadJsonError):
        to_message(value, search_pb2.SearchRequest.DESCRIPTOR)


def test_parameters_are_fields() -> None:
    descriptor = catalog_pb2.ListItemsRequest.DESCRIPTOR
    pairs = [("pageSize", "5"), ("withFeatures", "true"), ("page_token", "a")]
    values = query_values(pairs, descriptor, ["parent"])
    message = to_message(values, descriptor)
    assert message == catalog_pb2.ListItemsRequest(page_size=5, with_features=True, page_token="a")
    for bad in ([("pageSize", "5"), ("page_size", "5")], [("parent", "x")], [("filter", "{}")], [("x", "")]):
        with pytest.raises(BadJsonError):
            query_values(bad, descriptor, ["parent"])
