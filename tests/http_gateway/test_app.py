"""The gateway over running services: the answers of gRPC, and refusals as JSON."""

from __future__ import annotations

import base64
import io
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from PIL import Image
from structlog.testing import capture_logs

from cir.common.v1 import errors_pb2
from cir.search.v1 import search_pb2 as pb
from cir.update_mask import payload_path
from http_gateway.json_writer import from_message
from service_runtime.errors import ServiceError, grpc_code
from service_runtime.server import serving
from tests.http_gateway.conftest import gateway
from tests.search_service.conftest import Stack, running_stack
from tests.search_service.neighbours import UNREADABLE

pytestmark = pytest.mark.service


async def test_a_search_is_the_one_of_grpc(web: httpx.AsyncClient, stack: Stack) -> None:
    body = {
        "turns": [
            {"reference": {"itemId": "item-3"}, "text": "in red"},
            {"text": "longer", "likedItemIds": ["item-5"]},
        ],
        "filter": {"must": [{"range": {"field": "price", "gte": 4, "lt": 30}}]},
        "pageSize": 7,
    }
    answer = await web.post("/v1/catalogs/shop:search", json=body)
    assert answer.status_code == 200, answer.text
    request = pb.SearchRequest(parent="catalogs/shop", page_size=7)
    request.turns.add(text="in red").reference.item_id = "item-3"
    request.turns.add(text="longer", liked_item_ids=["item-5"])
    condition = request.filter.must.add().range
    condition.field = "price"
    condition.gte.integer_value, condition.lt.integer_value = 4, 30
    expected = from_message(await stack.search.Search(request))
    found = answer.json()
    assert found["results"] == json.loads(json.dumps(expected["results"]))
    assert len(found["results"]) == 7
    payload = found["results"][0]["item"]["payload"]
    assert isinstance(payload["price"], int)
    assert isinstance(payload["weight"], float)
    assert payload["added"].keys() == {"datetime"}
    assert found["nextPageToken"]
    more = await web.post("/v1/catalogs/shop:search", json=body | {"pageToken": found["nextPageToken"]})
    assert {one["item"]["id"] for one in more.json()["results"]}.isdisjoint(
        one["item"]["id"] for one in found["results"]
    )


async def test_a_date_equals_its_day_and_a_moment_itself(web: httpx.AsyncClient) -> None:
    added: list[tuple[list[object], set[str]]] = [
        (["2026-01-03"], {"item-2", "item-30"}),
        ([{"datetime": "2026-01-03"}, "2026-01-04"], {"item-2", "item-30", "item-3", "item-31"}),
        (["2026-01-03T00:00:01Z"], set()),
    ]
    for values, expected in added:
        where = {"must": [{"matchAny": {"field": "added", "values": values}}]}
        body = {"turns": [{"text": "any"}], "filter": where, "pageSize": 40}
        answer = await web.post("/v1/catalogs/shop:search", json=body)
        assert {one["item"]["id"] for one in answer.json()["results"]} == expected
    where = {"must": [{"matchAny": {"field": "added", "values": ["spring"]}}]}
    refused = await web.post("/v1/catalogs/shop:search", json={"turns": [{"text": "any"}], "filter": where})
    assert refused.status_code == 400
    assert "expected RFC 3339" in refused.json()["message"]


async def test_items_are_written_read_listed_and_deleted(web: httpx.AsyncClient) -> None:
    item_id = "a/b c%:list?ü"
    written = {
        "id": item_id,
        "payload": {
            "colour": "red",
            "price": 5,
            "tags": ["a", "b"],
            "added": {"datetime": "2026-02-03T04:05:06Z"},
        },
        "image": "9.jpg",
    }
    picture = io.BytesIO()
    Image.new("RGB", (20, 30), "red").save(picture, "PNG")
    content = "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
    answer = await web.post(
        "/v1/catalogs/shop/items:batchUpsert", json={"items": [{"item": written, "content": content}]}
    )
    assert answer.json() == {"written": 1, "errors": []}, answer.text
    place = f"/v1/catalogs/shop/items/{quote(item_id, safe='')}"
    assert (await web.get(place)).json() == written
    listed = await web.get("/v1/catalogs/shop/items", params={"pageSize": 3})
    assert len(listed.json()["items"]) == 3
    only = {"filter": {"must": [{"matchAny": {"field": "price", "values": [5]}}]}}
    found = (await web.post("/v1/catalogs/shop/items:list", json=only)).json()["items"]
    assert {one["id"] for one in found} == {item_id, "item-5"}
    counted = await web.post("/v1/catalogs/shop/items:facet", json={"fields": ["colour"], **only})
    assert sum(int(one["count"]) for one in counted.json()["facets"][0]["values"]) == 2
    assert (await web.post("/v1/catalogs/shop/items:batchDelete", json={"itemIds": [item_id]})).json() == {
        "deleted": 1
    }
    gone = await web.get(place)
    assert gone.status_code == 404
    assert gone.json()["code"] == 5
    assert gone.json()["details"][0]["reason"] == "ITEM_NOT_FOUND"


async def test_a_mask_changes_the_fields_that_it_names_and_no_others(web: httpx.AsyncClient) -> None:
    url, place = "/v1/catalogs/shop/items:batchUpdate", "/v1/catalogs/shop/items/item-1"
    stored: dict[str, Any] = {
        "in_stock": True,
        "inStock": "old",
        "sizeUS": 7,
        "a_b": 1,
        "a,b": 2,
        "a": 3,
        "`ü": 4,
    }
    stored |= {"payload": 5, "image": 6, "A": 7}
    whole = {"items": [{"id": "item-1", "payload": stored}], "updateMask": "payload"}
    assert (await web.post(url, json=whole)).json() == {"updated": 1, "errors": []}
    for name in list(stored):
        stored[name] = f"new {name}"
        given = dict.fromkeys(stored, "not named") | {name: stored[name]}
        path = payload_path(name)
        for mask in (path, [path], {"update_mask": path}):
            key = mask if isinstance(mask, dict) else {"updateMask": mask}
            answer = await web.post(url, json={"items": [{"id": "item-1", "payload": given}], **key})
            assert answer.json() == {"updated": 1, "errors": []}, answer.text
            assert (await web.get(place)).json()["payload"] == stored
    answer = await web.post(url, json={"items": [{"id": "item-1"}], "updateMask": "payload.fields.in Stock"})
    assert answer.status_code == 400
    assert answer.json()["details"][1]["fieldViolations"][0]["field"] == "updateMask"


async def test_a_plain_client_finds_zeros_and_empty_lists(web: httpx.AsyncClient) -> None:
    bad = {"items": [{"item": {"id": ""}}, {"item": {"id": "x"}}]}
    answer = (await web.post("/v1/catalogs/shop/items:batchUpsert", json=bad)).json()
    assert (answer["written"], [one["index"] for one in answer["errors"]]) == (0, [0, 1])
    nowhere = {"must": [{"matchAny": {"field": "price", "values": [-1]}}]}
    found = await web.post("/v1/catalogs/shop:search", json={"turns": [{"text": "a"}], "filter": nowhere})
    assert (found.json()["results"], found.json()["nextPageToken"]) == ([], "")
    removed = await web.request("DELETE", "/v1/catalogs/shop")
    assert removed.status_code == 200, removed.text
    assert (await web.get("/v1/catalogs")).json() == {"catalogs": [], "nextPageToken": ""}


async def test_catalogs_are_told(web: httpx.AsyncClient) -> None:
    assert [one["name"] for one in (await web.get("/v1/catalogs")).json()["catalogs"]] == ["catalogs/shop"]
    shop = (await web.get("/v1/catalogs/shop")).json()
    assert shop["published"]["schema"]["price"] == "integer"
    assert (await web.get("/v1/info")).json()["defaultCombiner"]


REFUSED: list[tuple[str, str, bytes, dict[str, Any], int]] = [
    ("POST", "/v1/catalogs/none:search", b'{"turns": [{"text": "a"}]}', {}, 404),
    ("POST", "/v1/catalogs/shop:search", b"{}", {}, 400),
    ("POST", "/v1/catalogs/shop:search", b'{"turns": [{"text": "a"}], "pageSize": -1}', {}, 400),
    ("POST", "/v1/catalogs/shop:search", b'{"parent": "other", "turns": []}', {}, 400),
    ("POST", "/v1/catalogs/shop:search", b'{"turns": "a dress"}', {}, 400),
    ("POST", "/v1/catalogs/shop:search", b'{"turns": [{"text": "a", "colour": "red"}]}', {}, 400),
    ("POST", "/v1/catalogs/shop:search", b'{"turns": [{"text": "a", "text": "b"}]}', {}, 400),
    ("POST", "/v1/catalogs/shop:search", b'{"turns": ' + b"[" * 90_000 + b"}", {}, 400),
    ("POST", "/v1/catalogs/shop:search", b'{"filter": ' * 9_000 + b"{}" + b"}" * 9_000, {}, 400),
    (
        "POST",
        "/v1/catalogs/shop:search",
        b'{"turns": [{"text": "a"}], "pageSize": 1' + b"0" * 5000 + b"}",
        {},
        400,
    ),
    ("POST", "/v1/catalogs/shop:search", b'{"turns": [{"text": "a"}], "diversity": 1e999}', {}, 400),
    ("POST", "/v1/catalogs/shop:search", b'{"turns": [{"text": "a"}], "diversity": NaN}', {}, 400),
    ("POST", "/v1/catalogs/shop:search", b'{"turns": [{"text": "a"}], "diversity": "NaN"}', {}, 400),
    ("POST", "/v1/catalogs/shop:search", b'{"turns": [{"text": "\xff"}]}', {}, 400),
    ("POST", "/v1/catalogs/shop:search", b'{"turns": [{"text": "\\ud800"}]}', {}, 400),
    ("POST", "/v1/catalogs/shop:search", b'{"\\ud800": 1}', {}, 400),
    ("POST", "/v1/catalogs/shop:search", b'{"\\ud800": 1, "\\ud800": 2}', {}, 400),
    ("POST", "/v1/catalogs/shop:search", b'{"turns": [{"text": "a"}], "feedback": "\\ud800"}', {}, 400),
    ("POST", "/v1/catalogs/shop:search?pageSize=3", b'{"turns": [{"text": "a"}]}', {}, 400),
    ("POST", "/v1/catalogs/shop:search", b"{}", {"content-type": "text/plain"}, 415),
    ("POST", "/v1/catalogs/shop:search", b'{"x": "' + b"a" * 300_000 + b'"}', {}, 413),
    ("POST", "/v1/catalogs/shop:search", b'{"turns": [{"text": "a"}]}', {"x-timeout-seconds": "x"}, 400),
    (
        "POST",
        "/v1/catalogs/shop:search",
        b'{"turns": [{"text": "a"}]}',
        {"x-timeout-seconds": "1e-9"},
        504,
    ),
    ("GET", "/v1/catalogs/shop:search", b"", {}, 405),
    ("GET", "/v1/nothing", b"", {}, 404),
    ("GET", "/v1/catalogs/shop/items?pageSize=x", b"", {}, 400),
    ("GET", "/v1/catalogs/shop/items?nothing=1", b"", {}, 400),
    ("GET", "/v1/catalogs/shop/items/%FF", b"", {}, 400),
    ("GET", "/v1/catalogs", b"", {"authorization": b"Bearer \xfc"}, 401),
    ("POST", "/v1/embeddings", b'{"input": "a"}', {}, 501),
]


async def test_refusals_are_status_in_json(web: httpx.AsyncClient) -> None:
    for method, path, content, headers, status in REFUSED:
        answer = await web.request(
            method, path, content=content, headers={"content-type": "application/json"} | headers
        )
        assert answer.status_code == status, (path, content[:80], answer.text)
        refused = answer.json()
        assert refused["code"] > 0
        assert refused["message"]
        reason = refused["details"][0]["reason"]
        assert grpc_code(errors_pb2.ErrorReason.Value(reason)).value[0] == refused["code"], (path, reason)
    assert (await web.get("/v1/catalogs/shop")).status_code == 200


async def test_a_service_that_is_away_is_told_with_a_time_to_come_again(stack: Stack) -> None:
    await stack.embedder_server.stop(None)
    async with AsyncExitStack() as cleanup:
        web = await gateway(cleanup, stack.address)
        answer = await web.post("/v1/catalogs/shop:search", json={"turns": [{"text": "a"}]})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["details"][0]["reason"] == "EMBEDDER_UNAVAILABLE"
        away = await gateway(cleanup, "127.0.0.1:1")
        answer = await away.get("/v1/catalogs")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["details"][0]["reason"] == "NOT_READY"
        assert "127.0.0.1" not in answer.text
        assert (await away.get("/healthz")).json() == {"status": "ok"}


async def test_the_service_that_is_away_is_named_and_logged_once_with_its_address(stack: Stack) -> None:
    async with AsyncExitStack() as cleanup:
        nowhere = "127.0.0.1:1"
        away = await gateway(cleanup, nowhere)
        half = await gateway(cleanup, stack.address, nowhere)
        with capture_logs() as logs:
            for _ in range(2):
                answers = [
                    await away.get("/v1/catalogs"),
                    await half.post("/v1/embeddings", json={"input": "a"}),
                ]
                for answer, name in zip(answers, ("search", "embedder"), strict=True):
                    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                    assert name in answer.json()["message"]
                    assert "127.0.0.1" not in answer.text
        warnings = [line for line in logs if line["log_level"] == "warning"]
        assert [line["address"] for line in warnings] == [nowhere] * 2
        for line, name in zip(warnings, ("search", "embedder"), strict=True):
            assert name in line["event"]


async def test_embeddings_have_the_reasons_and_the_times_of_the_embedder(stack: Stack) -> None:
    async with AsyncExitStack() as cleanup:
        web = await gateway(cleanup, stack.address, stack.embedder_address)
        inputs = ["a", "data:image/png;base64," + base64.b64encode(UNREADABLE).decode()]
        answer = await web.post("/v1/embeddings", json={"input": inputs})
        info, request = answer.json()["details"]
        assert (answer.status_code, info["reason"]) == (400, "IMAGE_UNREADABLE")
        assert request["fieldViolations"][0]["field"] == "input[1]"
        stack.embedder.refuse = ServiceError(errors_pb2.NOT_READY, "starting")
        answer = await web.post("/v1/embeddings", json={"input": "a"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        stack.embedder.refuse = ServiceError(errors_pb2.TOO_MANY_ITEMS, "too many", field="texts")
        answer = await web.post("/v1/embeddings", json={"input": "a"})
        assert answer.json()["details"][1]["fieldViolations"][0]["field"] == "input"


async def test_fields_at_fault_are_spelled_as_in_json(web: httpx.AsyncClient) -> None:
    bad = {"item": {"id": "x", "payload": {"my_text": {"datetime": "x"}}}}
    for path, body, field in (
        ("shop:search", {"turns": [{"text": "a"}], "pageSize": -1}, "pageSize"),
        ("shop:search", {"turns": [{"text": "a", "textWeight": 2}]}, "turns[0].textWeight"),
        (
            "shop:search",
            {"turns": [{"text": "a"}], "filter": {"mustNot": [{"hasId": {}}]}},
            "filter.mustNot[0].hasId.itemIds",
        ),
        ("none:search", {"turns": [{"text": "a"}]}, "parent"),
        ("shop/items:batchUpsert", {"items": [bad]}, "items[0].item.payload.my_text"),
    ):
        refused = await web.post(f"/v1/catalogs/{path}", json=body)
        assert refused.json()["details"][1]["fieldViolations"][0]["field"] == field, refused.text


async def test_pages_of_other_origins_call_only_where_they_are_named(stack: Stack) -> None:
    asked = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    async with AsyncExitStack() as cleanup:
        closed = await gateway(cleanup, stack.address)
        assert (
            "access-control-allow-origin" not in (await closed.options("/v1/catalogs", headers=asked)).headers
        )
        open_ = await gateway(cleanup, stack.address, cors_origins=["https://shop.example"])
        allowed = (await open_.options("/v1/catalogs", headers=asked)).headers
        assert allowed["access-control-allow-origin"] == "https://shop.example"
        other = await open_.options("/v1/catalogs", headers=asked | {"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


async def test_the_description_is_served(web: httpx.AsyncClient) -> None:
    assert (await web.get("/openapi.json")).json()["openapi"] == "3.1.0"
    assert "Composed image retrieval" in (await web.get("/docs")).text


async def test_embeddings_ask_for_a_key_of_the_search_service(tmp_path: Path) -> None:
    key = "s3cret-key-0123456789"
    async with (
        running_stack(tmp_path, api_keys=f"shop:read:{key}") as stack,
        AsyncExitStack() as cleanup,
    ):
        web = await gateway(cleanup, stack.address, stack.embedder_address)
        for headers in ({}, {"authorization": "Bearer another-key-0123456789"}):
            refused = await web.post("/v1/embeddings", json={"input": "a"}, headers=headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
        assert stack.embedder.texts == 0
        files: Any = {"request": (None, '{"input": "a"}'), "input[1]": ("a.jpg", b"image")}
        answer = await web.post("/v1/embeddings", files=files, headers={"authorization": f"Bearer {key}"})
        assert [one["index"] for one in answer.json()["data"]] == [0, 1], answer.text
        assert (stack.embedder.texts, stack.embedder.images) == (1, 1)
        files["input[3]"] = files.pop("input[1]")
        refused = await web.post("/v1/embeddings", files=files, headers={"x-api-key": key})
        assert refused.json()["details"][1]["fieldViolations"][0]["field"] == "input[3]"


@pytest.mark.torch
async def test_embeddings_have_the_shape_that_openai_s_clients_read(stack: Stack, tmp_path: Path) -> None:
    from embedder_service.application import EmbedderApplication
    from tests.embedder_service.conftest import small_settings

    picture = io.BytesIO()
    Image.new("RGB", (20, 30), "red").save(picture, "PNG")
    url = "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
    settings = small_settings(tmp_path)
    async with AsyncExitStack() as cleanup:
        address = await cleanup.enter_async_context(serving(EmbedderApplication(settings), settings))
        web = await gateway(cleanup, stack.address, address)
        answer = await web.post("/v1/embeddings", json={"input": ["a dress", url, "a hat"], "model": "any"})
        assert answer.status_code == 200, answer.text
        data = answer.json()["data"]
        assert [one["index"] for one in data] == [0, 1, 2]
        assert {len(one["embedding"]) for one in data} == {32}
        packed = await web.post(
            "/v1/embeddings", json={"input": ["a dress", url, "a hat"], "encoding_format": "base64"}
        )
        for one, other in zip(data, packed.json()["data"], strict=True):
            unpacked = np.frombuffer(base64.b64decode(other["embedding"]), "<f4")
            np.testing.assert_allclose(unpacked, one["embedding"], rtol=1e-5)
        for body, field in (
            ({"input": []}, "input"),
            ({"input": [1]}, "input"),
            ({"input": "a", "dimensions": 5}, "dimensions"),
            ({"input": "a", "encoding_format": "x"}, "encoding_format"),
            ({"input": ["a", "data:image/png;base64,***"]}, "input[1]"),
            ({"input": ["a", "data:image/png;base64,AAAA"]}, "input[1]"),
            ({"input": "a", "x": 1}, "x"),
        ):
            refused = await web.post("/v1/embeddings", json=body)
            assert refused.status_code == 400, (body, refused.text)
            assert refused.json()["details"][1]["fieldViolations"][0]["field"] == field
