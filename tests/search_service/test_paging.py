"""Page tokens are bound to their query."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from cir.common.v1.vectors_pb2 import VectorBatch
from cir.search.v1.search_pb2 import Reference, SearchRequest, Turn
from search_service.paging import PageToken, decode_page_token, request_digest
from search_service.search import query_digest
from service_runtime.errors import ServiceError

DIGEST = bytes(range(16))


@given(st.text(), st.integers(0, 10**9 - 1))
def test_what_is_encoded_is_decoded(version: str, offset: int) -> None:
    token = PageToken(version, str(offset)).encode(DIGEST)
    assert decode_page_token(token, DIGEST) == PageToken(version, str(offset))
    assert decode_page_token(token, DIGEST).offset == offset


@given(st.text() | st.binary().map(lambda raw: raw.hex()))
def test_anything_else_is_refused(token: str) -> None:
    with pytest.raises(ServiceError, match="page_token"):
        decode_page_token(token, DIGEST)


def test_another_query_is_refused() -> None:
    with pytest.raises(ServiceError, match="page_token"):
        decode_page_token(PageToken("v1", "10").encode(DIGEST), bytes(16))


def test_a_cursor_that_is_no_count_has_no_offset() -> None:
    for cursor in ("-1", "x", "", "9" * 30, "²"):
        with pytest.raises(ServiceError, match="page_token"):
            _ = PageToken("v1", cursor).offset


def test_digest_ignores_what_it_is_told_to_and_leaves_the_request_alone() -> None:
    request = SearchRequest(catalog="catalogs/a", turns=[Turn(text="x")], limit=3, page_token="t")
    same = SearchRequest(catalog="catalogs/a", turns=[Turn(text="x")], limit=9)
    other = SearchRequest(catalog="catalogs/a", turns=[Turn(text="y")], limit=3)
    assert request_digest(request, "limit", "page_token") == request_digest(same, "limit", "page_token")
    assert request_digest(request, "limit", "page_token") != request_digest(other, "limit", "page_token")
    assert request.page_token == "t"


# A page may be longer or shorter than the one before, and carry more or less; all else makes another query.
FREE = {"page_token", "limit", "with_features", "with_query_vector"}


@pytest.mark.parametrize("field", list(SearchRequest.DESCRIPTOR.fields), ids=lambda field: field.name)
def test_every_field_of_a_query_binds_its_tokens(field: FieldDescriptor) -> None:
    request = SearchRequest(catalog="catalogs/a", turns=[Turn(text="x")])
    changed = SearchRequest()
    changed.CopyFrom(request)
    if field.name == "filter":
        changed.filter.must.add().exists.field = "price"
    elif field.name == "turns":
        changed.turns.add(text="y")
    elif field.is_repeated:
        getattr(changed, field.name).append("a")
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        setattr(changed, field.name, "catalogs/b")
    else:
        setattr(changed, field.name, 1)
    assert (query_digest(changed) == query_digest(request)) == (field.name in FREE)


@pytest.mark.parametrize(
    "turn",
    [
        Turn(text="y"),
        Turn(text="x", text_weight=0.5),
        Turn(text="x", liked_item_ids=["a"]),
        Turn(text="x", disliked_item_ids=["a"]),
        Turn(text="x", reference=Reference(item_id="a")),
        Turn(text="x", reference=Reference(image=b"a")),
        Turn(text="x", reference=Reference(features=VectorBatch(data=b"a"))),
    ],
)
def test_every_part_of_a_turn_binds_tokens(turn: Turn) -> None:
    request = SearchRequest(catalog="catalogs/a", turns=[Turn(text="x")])
    assert query_digest(SearchRequest(catalog="catalogs/a", turns=[turn])) != query_digest(request)
