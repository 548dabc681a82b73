"""gRPC-Web: the messages of gRPC in frames, and refusals in the trailers."""

from __future__ import annotations

from base64 import b64decode, b64encode
from contextlib import AsyncExitStack, suppress
from urllib.parse import unquote

import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from cir.search.v1 import search_pb2 as pb
from http_gateway.codec import BadJsonError
from http_gateway.grpc_web import KIND, read_call, read_timeout
from tests.http_gateway.conftest import gateway
from tests.search_service.conftest import Stack

SEARCH = "/cir.search.v1.SearchService/Search"
REQUEST = pb.SearchRequest(parent="catalogs/shop", turns=[pb.Turn(text="a dress")], page_size=5)


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4) + message


def frames(content: bytes) -> tuple[bytes, dict[str, str]]:
    """The message of an answer, empty without one, and its trailers."""
    message, trailers = b"", {}
    while content:
        flags, length = content[0], int.from_bytes(content[1:5])
        part, content = content[5 : 5 + length], content[5 + length :]
        if flags == 0:
            message = part
        else:
            trailers = dict(line.split(": ", 1) for line in part.decode().split("\r\n") if line)
    return message, trailers


@given(st.binary(max_size=40), st.sampled_from([KIND, f"{KIND}-text"]))
def test_any_body_is_a_message_or_refused(content: bytes, kind: str) -> None:
    with suppress(BadJsonError):
        read_call(content, kind)
    body = framed(content)
    assert read_call(b64encode(body) if kind.endswith("text") else body, kind) == content
    with pytest.raises(BadJsonError):
        read_call(body + body, KIND)


@pytest.mark.parametrize(
    ("text", "seconds"), [("", None), ("10S", 10.0), ("2M", 120.0), ("250m", 0.25), ("1H", 3600.0)]
)
def test_times_are_those_of_grpc(text: str, seconds: float | None) -> None:
    assert read_timeout(text) == seconds


@pytest.mark.parametrize("text", ["10", "S", "1e3S", "-1S", "123456789S", "1 S", "1D"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(BadJsonError):
        read_timeout(text)


@pytest.mark.service
@pytest.mark.parametrize("kind", [KIND, f"{KIND}+proto", f"{KIND}-text"])
async def test_an_answer_is_the_one_of_grpc(web: httpx.AsyncClient, stack: Stack, kind: str) -> None:
    body = framed(REQUEST.SerializeToString())
    as_text = kind.endswith("text")
    answer = await web.post(
        SEARCH, content=b64encode(body) if as_text else body, headers={"content-type": kind}
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    message, trailers = frames(b64decode(answer.content) if as_text else answer.content)
    assert trailers == {"grpc-status": "0"}
    assert pb.SearchResponse.FromString(message).results == (await stack.search.Search(REQUEST)).results


@pytest.mark.service
async def test_refusals_are_those_of_grpc(web: httpx.AsyncClient) -> None:
    refused = pb.SearchRequest(parent="catalogs/shop", turns=[pb.Turn(text="a")], page_size=-1)
    sound = framed(REQUEST.SerializeToString())
    for path, content, headers, status in (
        (SEARCH, framed(refused.SerializeToString()), {}, 3),
        (SEARCH, framed(b"\xff"), {}, 3),
        (SEARCH, b"", {}, 3),
        (SEARCH, sound, {"grpc-timeout": "soon"}, 3),
        (SEARCH, sound, {"grpc-timeout": "1n"}, 4),
        (SEARCH + "x", sound, {}, 12),
        ("/cir.search.v1.CatalogService/ImportItems", sound, {}, 12),
        ("/grpc.health.v1.Health/Check", framed(b""), {}, 12),
    ):
        answer = await web.post(path, content=content, headers={"content-type": KIND} | headers)
        message, trailers = frames(answer.content)
        assert answer.status_code == 200
        assert (message, trailers["grpc-status"]) == (b"", str(status)), (path, content)
        assert unquote(trailers["grpc-message"])
    first = frames(
        (
            await web.post(
                SEARCH, content=framed(refused.SerializeToString()), headers={"content-type": KIND}
            )
        ).content
    )[1]
    packed = first["grpc-status-details-bin"]
    details = status_pb2.Status.FromString(b64decode(packed + "=" * (-len(packed) % 4))).details
    info = error_details_pb2.ErrorInfo()
    assert details[0].Unpack(info)
    assert info.reason == "OUT_OF_RANGE"
    large = await web.post(SEARCH, content=b"a" * 300_000, headers={"content-type": KIND})
    assert large.status_code == 413


@pytest.mark.service
async def test_pages_of_named_origins_may_call(stack: Stack) -> None:
    asked = {
        "origin": "https://shop.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,grpc-timeout,x-grpc-web,x-user-agent,x-api-key",
    }
    async with AsyncExitStack() as cleanup:
        web = await gateway(cleanup, stack.address, cors_origins=["https://shop.example"])
        assert (await web.options(SEARCH, headers=asked)).status_code == 200
        content = framed(REQUEST.SerializeToString())
        headers = {"content-type": KIND, "origin": "https://shop.example"}
        answer = await web.post(SEARCH, content=content, headers=headers)
        assert "grpc-status" in answer.headers["access-control-expose-headers"]
