"""Forms: files are what base64 at their place would be, and nothing else is taken for one."""

from __future__ import annotations

import io
from base64 import b64encode
from contextlib import suppress
from typing import Any

import httpx
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from cir.search.v1 import catalog_pb2, search_pb2
from http_gateway.codec import BadJsonError, put_file, to_message
from http_gateway.multipart import Form, read_form
from http_gateway.rules import routes

TYPE = "multipart/form-data; boundary=here"
IMAGE = b"\x00\r\n--her\xff"
SEARCH = "/v1/catalogs/shop:search"


def form(*parts: tuple[str, bytes]) -> bytes:
    """A form as clients write it."""
    return (
        b"".join(
            f'--here\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n\r\n'.encode()
            + content
            + b"\r\n"
            for name, content in parts
        )
        + b"--here--\r\n"
    )


def test_a_form_is_a_request_and_files() -> None:
    read = read_form(form(("turns[0].reference.image", IMAGE), ("request", b"{}")), TYPE)
    assert read == Form(b"{}", {"turns[0].reference.image": IMAGE})
    assert read_form(form(), TYPE) == Form()


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (form(("request", b"{}"), ("request", b"{}")), TYPE, "given twice"),
        (form(("", b"{}")), TYPE, "no name"),
        (b"--here\r\n\r\nabc\r\n--here--\r\n", TYPE, "no name"),
        (form(("request", b"{}"))[:-10], TYPE, "ends before"),
        (b"", TYPE, "ends before"),
        (b"{}", TYPE, "no multipart"),
        (form(("request", b"{}")), "multipart/form-data", "without a boundary"),
        (form(("request", b"{}")), "multipart/form-data; boundary=" + "a" * 300, "no multipart"),
        (form(*((f"a{number}", b"") for number in range(1100))), TYPE, "more than"),
        (form(("a" * 10_000, b"")), TYPE, "no multipart"),
    ],
)
def test_what_is_no_form_is_refused(content: bytes, kind: str, words: str) -> None:
    with pytest.raises(BadJsonError, match=words):
        read_form(content, kind)


@given(
    st.binary(max_size=200), st.sampled_from([TYPE, "multipart/form-data", "multipart/form-data; boundary="])
)
def test_any_bytes_are_a_form_or_refused(content: bytes, kind: str) -> None:
    for body in (content, b"--here\r\n" + content + b"\r\n--here--\r\n"):
        with suppress(BadJsonError):
            read_form(body, kind)


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (search_pb2.SearchRequest(), "turns[0].reference.image"),
        (search_pb2.SearchRequest(turns=[search_pb2.Turn(text="in red")]), "turns[0].reference.image"),
        (
            search_pb2.SearchRequest(turns=[search_pb2.Turn(text="in red")]),
            "turns[1].reference.features.data",
        ),
        (search_pb2.BatchSearchRequest(), "requests[0].turns[0].reference.image"),
        (catalog_pb2.BatchUpsertItemsRequest(), "items[0].content"),
    ],
)
def test_a_file_is_what_base64_at_its_place_would_be(message: Message, path: str) -> None:
    expected = type(message).FromString(message.SerializeToString())
    value: Any = b64encode(IMAGE).decode()
    for part in reversed(path.split(".")):
        name, _, place = part.rstrip("]").partition("[")
        # Elements before it are empty here, where the request has them.
        value = {name: [*([{}] * int(place)), value] if place else value}
    expected = to_message(value, message.DESCRIPTOR)  # type: ignore[arg-type]
    put_file(message, path, IMAGE)
    for turn in getattr(message, "turns", ()):
        turn.text = ""
    assert message == expected


@pytest.mark.parametrize(
    "path",
    [
        *("", ".", "turns", "turns[0]", "turns[0].text", "turns[1].reference.image", "turns.reference.image"),
        *(
            "turns[-1].reference.image",
            "turns[x].reference.image",
            "turns[9999999].reference.image",
            "pageSize",
        ),
        *("reference.image", "turns[0].reference[0].image", "turns[0].reference.image[0]", "filter.must[0]"),
        *("turns[0].reference.image.x", "turns[0].liked_item_ids[0]", "\x00", "turns[0].reference.image\n"),
    ],
)
def test_what_is_no_field_of_bytes_takes_no_file(path: str) -> None:
    with pytest.raises(BadJsonError):
        put_file(search_pb2.SearchRequest(), path, IMAGE)


@given(
    st.lists(st.sampled_from(["turns", "reference", "image", "schema", "[0]", "[1]", ".", "a"]), max_size=8)
)
def test_any_path_is_a_field_or_refused(parts: list[str]) -> None:
    for message in (search_pb2.SearchRequest(), catalog_pb2.CreateCatalogVersionRequest()):
        with suppress(BadJsonError):
            put_file(message, "".join(parts), IMAGE)


@pytest.mark.parametrize("given", [{"itemId": "item-1"}, {"image": "aGVsbG8="}])
def test_a_file_takes_the_place_of_nothing(given: dict[str, str]) -> None:
    message = to_message({"turns": [{"reference": given}]}, search_pb2.SearchRequest.DESCRIPTOR)
    with pytest.raises(BadJsonError, match="already"):
        put_file(message, "turns[0].reference.image", IMAGE)


def test_forms_are_for_requests_that_have_images() -> None:
    taking = {route.method for route in routes() if route.takes_files}
    assert {"Search", "BatchSearch", "BatchUpsertItems"} <= taking
    assert not taking & {"CreateCatalog", "ListItems", "BatchDeleteItems", "FacetItems"}


@pytest.mark.service
async def test_an_image_is_sent_as_a_file(web: httpx.AsyncClient) -> None:
    files: Any = {"request": (None, '{"turns": [{"text": "in red"}], "pageSize": 3}', "application/json")}
    image = {"turns[0].reference.image": ("a.jpg", io.BytesIO(IMAGE))}
    answer = await web.post(SEARCH, files=files | image)
    assert answer.status_code == 200, answer.text
    turn = {"text": "in red", "reference": {"image": b64encode(IMAGE).decode()}}
    same = await web.post(SEARCH, json={"turns": [turn], "pageSize": 3})
    assert answer.json()["results"] == same.json()["results"]
    written = await web.post(
        "/v1/catalogs/shop/items:batchUpsert",
        files={"request": (None, '{"items": [{"item": {"id": "new"}}]}'), "items[0].content": ("a", IMAGE)},
    )
    assert written.json() == {"written": 1, "errors": []}, written.text
    for path, parts, status in (
        (SEARCH, files | {"turns[0].text": ("a", IMAGE)}, 400),
        (SEARCH, files | {"request": (None, "{")}, 400),
        (SEARCH, files | {"turns[0].reference.image": ("a", b"a" * 300_000)}, 413),
        ("/v1/catalogs/shop/items:batchDelete", {"request": (None, '{"itemIds": ["new"]}')}, 415),
    ):
        refused = await web.post(path, files=parts)
        assert refused.status_code == status, refused.text
        assert refused.json()["message"]
