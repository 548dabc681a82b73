from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

import cir
from tests.cir.fake_search import FakeSearch, refuse

CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: cir.InvalidArgument,
    grpc.StatusCode.NOT_FOUND: cir.NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: cir.FailedPrecondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: cir.ResourceExhausted,
    grpc.StatusCode.DEADLINE_EXCEEDED: cir.DeadlineExceeded,
    grpc.StatusCode.UNAUTHENTICATED: cir.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: cir.PermissionDenied,
    grpc.StatusCode.UNIMPLEMENTED: cir.Unimplemented,
    grpc.StatusCode.INTERNAL: cir.CirError,
}


@pytest.fixture
def client(search_service: FakeSearch) -> Iterator[cir.Client]:
    with cir.Client(search_service.address, timeout=10) as client:
        yield client


@pytest.mark.service
@pytest.mark.parametrize(("code", "kind"), CODES.items())
def test_each_code_has_its_class(
    client: cir.Client, search_service: FakeSearch, code: grpc.StatusCode, kind: type[cir.CirError]
) -> None:
    search_service.answers["GetSearchInfo"] = refuse(code, "no")
    with pytest.raises(cir.CirError) as raised:
        client.info()
    assert type(raised.value) is kind
    assert raised.value.code is code


@pytest.mark.service
def test_the_details_are_read(client: cir.Client, search_service: FakeSearch) -> None:
    search_service.answers["GetSearchInfo"] = refuse(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", reason="OVERLOADED", field="turns[0]", retry_after=1.25
    )
    with pytest.raises(cir.Overloaded, match=r"^busy$") as raised:
        client.info()
    error = raised.value
    assert (error.reason, error.field, error.retry_after) == ("OVERLOADED", "turns[0]", 1.25)
    assert error.metadata == {"limit": "3"}
    assert error.request_id == "r-1"


@pytest.mark.service
def test_details_of_others_are_not_taken_for_ours(client: cir.Client, search_service: FakeSearch) -> None:
    search_service.answers["GetSearchInfo"] = refuse(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "quota", reason="OVERLOADED", domain="proxy.example"
    )
    with pytest.raises(cir.ResourceExhausted) as raised:
        client.info()
    assert type(raised.value) is cir.ResourceExhausted
    assert raised.value.reason == ""


@pytest.mark.service
def test_a_service_that_is_away_is_named() -> None:
    with (
        cir.Client("127.0.0.1:1", timeout=10) as client,
        pytest.raises(cir.Unavailable, match=r"cannot reach 127\.0\.0\.1:1 \(.*; start the service"),
    ):
        client.info()


def test_errors_are_also_what_python_calls_them() -> None:
    assert issubclass(cir.InvalidArgument, ValueError)
    assert issubclass(cir.DeadlineExceeded, TimeoutError)
