"""Page tokens are bound to their query, and pages have a size within limits."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.common.v1 import errors_pb2
from cir.search.v1.search_pb2 import SearchRequest, Turn
from service_runtime.errors import ServiceError
from service_runtime.page_token import (
    PageToken,
    check_page_size,
    decode_token,
    encode_token,
    request_digest,
)

DIGEST = bytes(range(16))


@given(st.binary(max_size=20), st.binary(max_size=40))
def test_a_position_comes_back(binding: bytes, position: bytes) -> None:
    assert decode_token(encode_token(binding, position), binding) == position


@given(st.text(), st.integers(0, 10**9 - 1))
def test_what_is_encoded_is_decoded(version: str, offset: int) -> None:
    token = PageToken(version, str(offset)).encode(DIGEST)
    assert PageToken.decode(token, DIGEST) == PageToken(version, str(offset))
    assert PageToken.decode(token, DIGEST).offset == offset


def test_the_bytes_of_tokens_stay_what_they_are() -> None:
    assert base64.urlsafe_b64decode(PageToken("v1", "24").encode(DIGEST)) == DIGEST + b'["v1","24",""]'
    assert encode_token(b"after:", b"combiner/a") == "YWZ0ZXI6Y29tYmluZXIvYQ=="


@given(st.text() | st.binary().map(lambda raw: raw.hex()))
def test_anything_else_is_refused(token: str) -> None:
    with pytest.raises(ServiceError, match="page_token"):
        PageToken.decode(token, DIGEST)


@given(st.binary(max_size=40))
def test_what_is_bound_but_not_a_position_is_refused(position: bytes) -> None:
    token = encode_token(DIGEST, position + b"{")
    with pytest.raises(ServiceError, match="page_token") as raised:
        PageToken.decode(token, DIGEST)
    assert (raised.value.reason, raised.value.field) == (errors_pb2.PAGE_TOKEN_INVALID, "page_token")


def test_another_query_is_refused() -> None:
    with pytest.raises(ServiceError, match="page_token"):
        PageToken.decode(PageToken("v1", "10").encode(DIGEST), bytes(16))


def test_a_cursor_that_is_not_a_count_has_no_offset() -> None:
    for cursor in ("-1", "x", "", "9" * 30, "²"):
        with pytest.raises(ServiceError, match="page_token"):
            _ = PageToken("v1", cursor).offset


def test_the_digest_leaves_free_fields_out_and_the_request_alone() -> None:
    request = SearchRequest(parent="catalogs/a", turns=[Turn(text="x")], page_size=3, page_token="t")
    same = SearchRequest(parent="catalogs/a", turns=[Turn(text="x")], page_size=9)
    other = SearchRequest(parent="catalogs/a", turns=[Turn(text="y")], page_size=3)
    digest = request_digest(request, "page_size", "page_token")
    assert len(digest) == 16
    assert digest == request_digest(same, "page_size", "page_token")
    assert digest != request_digest(other, "page_size", "page_token")
    assert request.page_token == "t"


def test_page_sizes_have_a_default_and_a_limit() -> None:
    assert [check_page_size(size) for size in (0, 1, 1000, 5000)] == [100, 1, 1000, 1000]
    assert check_page_size(0, default=10) == 10
    with pytest.raises(ServiceError, match="page_size is -1; send 1 to 1000, or 0 for 20") as raised:
        check_page_size(-1, field="page_size", default=20)
    assert (raised.value.reason, raised.value.field) == (errors_pb2.OUT_OF_RANGE, "page_size")
