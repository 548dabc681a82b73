"""JSON of the gateway: what is written comes back, and what means nothing is refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import given
from hypothesis import strategies as st

from cir.common.v1 import errors_pb2, vectors_pb2
from cir.common.v1.payload_pb2 import Payload
from cir.datetimes import format_datetime, parse_datetime
from cir.enum_names import short_name, short_names
from cir.search.v1 import catalog_pb2, search_pb2
from http_gateway import codec, embeddings
from http_gateway.codec import PAYLOAD, VALUE, BadJsonError, query_values, read_json, to_message
from http_gateway.json_writer import from_message
from http_gateway.rules import routes
from tests.random_messages import random_message

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


@pytest.mark.parametrize(
    "kind",
    [
        *(
            search_pb2.SearchLimits,
            search_pb2.SearchTimings,
            search_pb2.TurnExplanation,
            vectors_pb2.VectorBatch,
        ),
        *(catalog_pb2.IndexSettings, catalog_pb2.CatalogVersion, errors_pb2.ItemError),
    ],
)
@given(seed=st.integers(0, 2**32))
def test_messages_are_written_as_they_are_read(kind: Any, seed: int) -> None:
    message = random_message(kind(), Random(seed))
    try:
        content = json.dumps(from_message(message), allow_nan=False).encode()
    except ValueError:  # times and durations beyond ten thousand years
        assert kind in (search_pb2.SearchTimings, catalog_pb2.CatalogVersion)
        return
    read = to_message(read_json(content), message.DESCRIPTOR)
    assert read.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)


def test_numbers_keep_their_kind() -> None:
    message = to_message({"a": 1, "b": 1.0, "c": [1, 2.5]}, Payload.DESCRIPTOR)
    assert isinstance(message, Payload)
    assert message.fields["a"].WhichOneof("kind") == "integer_value"
    assert message.fields["b"].WhichOneof("kind") == "float_value"
    assert [one.float_value for one in message.fields["c"].list_value.values] == [1.0, 2.5]


@pytest.mark.parametrize(
    ("enum", "descriptor", "field"),
    [
        (catalog_pb2.FieldType, catalog_pb2.CreateCatalogRequest.DESCRIPTOR, "schema"),
        (catalog_pb2.Quantization, catalog_pb2.IndexSettings.DESCRIPTOR, "quantization"),
        (catalog_pb2.VersionState, catalog_pb2.CatalogVersion.DESCRIPTOR, "state"),
        (search_pb2.FeedbackMethod, search_pb2.SearchRequest.DESCRIPTOR, "feedback"),
        (search_pb2.TurnKind, search_pb2.TurnExplanation.DESCRIPTOR, "kind"),
        (errors_pb2.ErrorReason, errors_pb2.ItemError.DESCRIPTOR, "reason"),
    ],
)
def test_enum_values_are_written_short_and_read_by_either_name(
    enum: Any, descriptor: Descriptor, field: str
) -> None:
    for short, number in short_names(enum.DESCRIPTOR).items():
        if not number:
            continue
        written = {field: {"a": short} if field == "schema" else short}
        whole = {field: {"a": enum.Name(number)} if field == "schema" else enum.Name(number)}
        message = to_message(written, descriptor)
        assert message == to_message(whole, descriptor)
        assert from_message(message)[field] == written[field]


def test_names_of_enum_values_are_those_of_people() -> None:
    assert list(short_names(search_pb2.TurnKind.DESCRIPTOR)) == [
        *("unspecified", "text_only", "reference_only", "composed", "continued", "feedback_only")
    ]
    # Reasons are written as google.rpc.ErrorInfo has them.
    assert "FIELD_REQUIRED" in short_names(errors_pb2.ErrorReason.DESCRIPTOR)
    assert short_name(search_pb2.TurnKind.DESCRIPTOR, 999) == "999"


def test_a_wrong_name_is_told_the_names_that_mean_something() -> None:
    request = {"catalogId": "shop", "schema": {"price": "flot"}}
    with pytest.raises(BadJsonError) as raised:
        to_message(request, catalog_pb2.CreateCatalogRequest.DESCRIPTOR)
    assert "one of keyword, integer, float, bool, datetime, geo, text" in str(raised.value)


@pytest.mark.parametrize("image", ["aGVsbG8=", "data:image/jpeg;base64,aGVsbG8="])
def test_images_are_base64_or_data_urls(image: str) -> None:
    request = {"parent": "catalogs/shop", "turns": [{"reference": {"image": image}, "text": "in red"}]}
    message = to_message(request, search_pb2.SearchRequest.DESCRIPTOR)
    assert isinstance(message, search_pb2.SearchRequest)
    assert message.turns[0].reference.image == b"hello"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
        (b"{", "no JSON"),
        (b'{"pageSize": NaN}', "NaN is no number"),
        (b'{"pageSize": Infinity}', "Infinity is no number"),
        (b'{"pageSize": 1, "pageSize": 2}', "'pageSize' is given twice"),
        (b'{"turns": [{"text": "a", "text": "b"}]}', "'text' is given twice"),
        (b"\xff{}", "no UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "no UTF-8"),
        (b'{"x":' * 100_000, "levels"),
        (b"[" * 100_000, "levels"),
        (b'{"pageSize": ' + b"9" * 5000 + b"}", "no JSON"),
    ],
)
def test_bodies_that_mean_nothing_are_refused(body: bytes, words: str) -> None:
    with pytest.raises(BadJsonError, match=words):
        read_json(body)


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-01",
        "2024-05-01t10:00:00z",
        "2024-05-01T10:00Z",
        "2024-05-01 10:00:00",
        "2024-05-01T10:00:00.123456789+23:59",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
    ],
)
def test_moments_are_read_in_every_form_that_the_other_doors_read(text: str) -> None:
    request = {"payload": {"added": {"datetime": text}}}
    message = to_message(request, catalog_pb2.Item.DESCRIPTOR)
    assert from_message(message)["payload"]["added"] == {"datetime": format_datetime(parse_datetime(text))}


@pytest.mark.parametrize(
    "text", ["", "now", "0001-01-01T00:00:00+01:00", "2024-02-30", "2016-12-31T23:59:60Z"]
)
def test_what_is_no_moment_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(BadJsonError, match=r"payload\.added: ") as refused:
        to_message({"payload": {"added": {"datetime": text}}}, catalog_pb2.Item.DESCRIPTOR)
    assert refused.value.field == "payload.added"


def test_of_ever_so_many_names_the_one_that_is_given_twice_is_named() -> None:
    names = [f'"{number}":0' for number in range(90_000)]
    with pytest.raises(BadJsonError, match="'z' is given twice"):
        read_json(("{" + ",".join([*names, '"z":1', '"z":2']) + "}").encode())


LEAVES: st.SearchStrategy[Any] = st.none() | st.integers(0, 9) | st.text(max_size=5)
COUNTED = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('a",[{\\', max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def parts(value: Any) -> int:
    """Texts and names, openings, and commas of JSON."""
    match value:
        case str():
            return 1
        case list():
            return 1 + max(0, len(value) - 1) + sum(map(parts, value))
        case dict():
            return 1 + max(0, len(value) - 1) + len(value) + sum(map(parts, value.values()))
    return 0


@given(value=st.dictionaries(st.text(max_size=3), COUNTED, max_size=4), most=st.integers(0, 30))
def test_bodies_are_read_up_to_a_number_of_parts_and_none_above_it(value: Any, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "MAX_PARTS", most)
        if parts(value) <= most:
            assert read_json(json.dumps(value).encode()) == value
        else:
            with pytest.raises(BadJsonError, match="more than"):
                read_json(json.dumps(value).encode())


@pytest.mark.parametrize("body", [b'"' * 1_000_000, b"{}," * 400_000, b'{"a":[' + b'"",' * 400_000])
def test_bodies_of_many_parts_are_refused_whatever_they_are(body: bytes) -> None:
    with pytest.raises(BadJsonError, match="more than 200000 texts"):
        read_json(body)


def test_an_address_in_embeddings_is_a_text_as_any_other() -> None:
    asked = embeddings.read({"input": ["http://example.com/x.jpg", "data:image/png;base64,aGVsbG8="]}, {})
    assert asked.inputs == ["http://example.com/x.jpg", b"hello"]


@pytest.mark.parametrize("name", ["model", "user"])
@pytest.mark.parametrize("value", [None, 1, ["a"]])
def test_what_embeddings_do_not_use_is_a_text_all_the_same(name: str, value: object) -> None:
    with pytest.raises(BadJsonError) as refused:
        embeddings.read({"input": "a", name: value}, {})
    assert refused.value.field == name


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (r'{"\ud800": 1}', r"\ud800"),
        (r'{"\uDFFF": 1, "\uDFFF": 2}', r"\udfff"),
        (r'{"feedback": "\ud800"}', "feedback"),
        (r'{"turns": [{"text": "a"}, {"text": "\ud83e \udde5"}]}', "turns[1].text"),
        (r'{"input": ["a", "\ud800"]}', "input[1]"),
        ('{"diversity": NaN}', "diversity"),
        ('{"turns": [{"text": "NaN"}, {"textWeight": -Infinity}]}', "turns[1].textWeight"),
        ('{"payload": {"Infinity": [1, Infinity]}}', "payload.Infinity[1]"),
    ],
)
def test_what_json_has_no_text_or_number_for_is_refused_with_its_field_in_words_that_can_be_sent(
    body: str, field: str
) -> None:
    with pytest.raises(BadJsonError) as refused:
        read_json(body.encode())
    assert refused.value.field == field
    assert str(refused.value).encode()


ODD: tuple[Any, ...] = (
    *(True, 1, -1, 1.5, 10**400, "x", "NaN", "1e400", {}, {"a": 1}, {"datetime": 1}, {"datetime": "x"}),
    *({"latitude": True, "longitude": 1}, {"latitude": 10**400, "longitude": 1}, [], [1], [None], [[1]]),
)


def odd_requests(descriptor: Descriptor, depth: int = 4) -> Iterator[tuple[str, dict[str, Any]]]:
    """Requests with an odd value in one field, and the name of that field, outermost first."""
    for field in descriptor.fields:
        name, inner = field.json_name, field.message_type
        is_map = False
        if inner is not None and inner.GetOptions().map_entry:
            is_map, inner = True, inner.fields_by_name["value"].message_type
        for odd in ODD:
            yield name, {name: odd}
            yield name, {name: {"key": odd} if is_map else [odd]}
        if depth and inner is not None and not inner.full_name.startswith((VALUE, PAYLOAD, "google.")):
            for place, value in odd_requests(inner, depth - 1):
                outer: object = {"key": value} if is_map else [value] if field.is_repeated else value
                yield f"{name}.{place}", {name: outer}


@pytest.mark.parametrize("request_", {route.request.full_name: route.request for route in routes()}.values())
def test_whatever_is_refused_is_named(request_: Descriptor) -> None:
    for place, value in odd_requests(request_):
        named = place
        try:
            to_message(value, request_)
        except BadJsonError as error:
            named = re.sub(r"\[\d+\]|\.key\b", "", error.field)
        assert named == place or named.startswith(f"{place}."), value


def test_true_is_no_number() -> None:
    for value in ({"diversity": True}, {"scoreThreshold": False}, {"feedback": True}):
        with pytest.raises(BadJsonError):
            to_message(value, search_pb2.SearchRequest.DESCRIPTOR)


def test_escaped_pairs_are_characters() -> None:
    assert read_json(rb'{"a\ud83e\udde5": "\ud83e\udde5 \\ud800"}') == {"a\U0001f9e5": "\U0001f9e5 \\ud800"}


def test_an_empty_body_is_an_empty_request() -> None:
    assert read_json(b"") == {}


FILTERS: dict[str, Any] = {"must": []}
for _ in range(200):
    FILTERS = {"must": [{"filter": FILTERS}]}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"unknown": 1}, "unknown"),
        ({"[unknown]": 1}, "[unknown]"),
        ({"turns": [{"text": "a"}, {"txt": "a"}]}, "turns[1].txt"),
        ({"page_size": 1, "pageSize": 1}, "pageSize"),
        ({"pageSize": "many"}, "pageSize"),
        ({"pageSize": True}, "pageSize"),
        ({"pageSize": 1.5}, "pageSize"),
        ({"pageSize": 2**40}, "pageSize"),
        ({"pageSize": float("inf")}, "pageSize"),
        ({"scoreThreshold": float("inf")}, "scoreThreshold"),
        ({"scoreThreshold": 10**400}, "scoreThreshold"),
        ({"scoreThreshold": "high"}, "scoreThreshold"),
        ({"scoreThreshold": "1_0"}, "scoreThreshold"),
        ({"scoreThreshold": " 0.5"}, "scoreThreshold"),
        ({"scoreThreshold": "\u0663"}, "scoreThreshold"),
        ({"scoreThreshold": "1e400"}, "scoreThreshold"),
        ({"scoreThreshold": "nan"}, "scoreThreshold"),
        (
            {"filter": {"must": [{"range": {"field": "a", "gt": [2**53 + 1, 0.5]}}]}},
            "filter.must[0].range.gt[0]",
        ),
        ({"turns": [{"reference": {"image": "a"}}]}, "turns[0].reference.image"),
        ({"turns": [{"textWeight": float("-inf")}]}, "turns[0].textWeight"),
        ({"turns": {"text": "a"}}, "turns"),
        ({"turns": "a"}, "turns"),
        ({"turns": [1]}, "turns[0]"),
        ({"turns": [None]}, "turns[0]"),
        ({"turns": [{"text": 5}]}, "turns[0].text"),
        ({"excludeItemIds": ["a", None]}, "excludeItemIds[1]"),
        ({"exact": "yes"}, "exact"),
        ({"filter": 5}, "filter"),
        (
            {"turns": [{"reference": {"itemId": "a", "image": "aGVsbG8="}}]},
            "turns[0].reference.image",
        ),
        ({"turns": [{"reference": {"image": "https://shop.example/a.jpg"}}]}, "turns[0].reference.image"),
        ({"turns": [{"reference": {"image": "data:image/png,abc"}}]}, "turns[0].reference.image"),
        ({"turns": [{"reference": {"image": "***"}}]}, "turns[0].reference.image"),
        ({"filter": FILTERS}, ""),
        (
            {"filter": {"must": [{"matchAny": {"field": "a", "values": [{}]}}]}},
            "filter.must[0].matchAny.values[0]",
        ),
        ({"filter": {"must": [{"range": {"field": "a", "gt": 2**70}}]}}, "filter.must[0].range.gt"),
        ({"filter": {"must": [{"range": {"field": "a", "lt": float("inf")}}]}}, "filter.must[0].range.lt"),
        ({"feedback": "NONE_SUCH"}, "feedback"),
        ({"feedback": "Rocchio"}, "feedback"),
        ({"feedback": ["rocchio"]}, "feedback"),
    ],
)
def test_requests_that_the_contract_does_not_take_are_refused(request_: dict[str, Any], field: str) -> None:
    with pytest.raises(BadJsonError) as refused:
        to_message(request_, search_pb2.SearchRequest.DESCRIPTOR)
    assert refused.value.field == field
    assert str(refused.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pagesize", "did you mean 'pageSize'?"),
        ("page_sizes", "did you mean 'pageSize'?"),
        ("zzz", "fields here: parent, turns, combiner,"),
    ],
)
def test_an_unknown_field_is_named_with_those_that_are_meant(name: str, said: str) -> None:
    with pytest.raises(BadJsonError) as refused:
        to_message({name: 1}, search_pb2.SearchRequest.DESCRIPTOR)
    assert str(refused.value).startswith(f"there is no field {name!r}; {said}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["turns", "text", "reference", "image", "itemId", "filter", "must", "matchAny", "values", "field",
             "pageSize", "features", "rows", "data", "payload", "range", "gt", "geoRadius", "center", "x"]
        ),
        inner,
        max_size=3,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["turns", "filter", "pageSize", "combiner", "x"]), JSON, max_size=3))
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
