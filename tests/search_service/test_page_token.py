"""Page tokens are bound to their query."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.search.v1.search_pb2 import SearchRequest, Turn
from search_service.page_token import PageToken, decode, digest_of
from service_runtime.errors import ServiceError

DIGEST = bytes(range(16))


@given(st.text(), st.integers(0, 10**9 - 1))
def test_what_is_encoded_is_decoded(version: str, offset: int) -> None:
    token = PageToken(version, str(offset)).encode(DIGEST)
    assert decode(token, DIGEST) == PageToken(version, str(offset))
    assert decode(token, DIGEST).offset == offset


@given(st.text() | st.binary().map(lambda raw: raw.hex()))
def test_anything_else_is_refused(token: str) -> None:
    with pytest.raises(ServiceError, match="page_token"):
        decode(token, DIGEST)


def test_another_query_is_refused() -> None:
    with pytest.raises(ServiceError, match="page_token"):
        decode(PageToken("v1", "10").encode(DIGEST), bytes(16))


def test_a_cursor_that_is_no_count_has_no_offset() -> None:
    for cursor in ("-1", "x", "", "9" * 30, "²"):
        with pytest.raises(ServiceError, match="page_token"):
            _ = PageToken("v1", cursor).offset


def test_digest_ignores_what_it_is_told_to_and_leaves_the_request_alone() -> None:
    request = SearchRequest(catalog="catalogs/a", turns=[Turn(text="x")], limit=3, page_token="t")
    same = SearchRequest(catalog="catalogs/a", turns=[Turn(text="x")], limit=9)
    other = SearchRequest(catalog="catalogs/a", turns=[Turn(text="y")], limit=3)
    assert digest_of(request, "limit", "page_token") == digest_of(same, "limit", "page_token")
    assert digest_of(request, "limit", "page_token") != digest_of(other, "limit", "page_token")
    assert request.page_token == "t"
