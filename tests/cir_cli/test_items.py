"""`cir items`: showing, writing, changing and deleting items of the published version."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image

from cir.common.v1 import errors_pb2
from cir.payload import from_payload
from cir.search.v1 import catalog_pb2
from cir_cli.main import run
from tests.cir import messages
from tests.cir.fake_search import FakeSearch, refuse

pytestmark = pytest.mark.service


@pytest.fixture(autouse=True)
def answers(search_service: FakeSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIR_SERVER", search_service.address)

    def delete(request: Any, _context: Any) -> catalog_pb2.BatchDeleteItemsResponse:
        return catalog_pb2.BatchDeleteItemsResponse(deleted=len(request.item_ids) or 7)

    search_service.answers.update(
        GetCatalog=messages.catalog(),
        ListItems=catalog_pb2.ListItemsResponse(items=[messages.item("a")]),
        BatchUpsertItems=catalog_pb2.BatchUpsertItemsResponse(written=1),
        BatchUpdateItems=catalog_pb2.BatchUpdateItemsResponse(updated=1),
        BatchDeleteItems=delete,
    )


def sent(service: FakeSearch, kind: type) -> list[Any]:
    """The requests of a kind, oldest first."""
    return [request for request in service.requests if isinstance(request, kind)]


def test_showing_needs_no_word_but_a_catalog_named_like_a_command_does(search_service: FakeSearch) -> None:
    for arguments in (["shop"], ["--limit", "3", "shop"], ["list", "shop"], ["list", "delete"]):
        assert run(["items", *arguments]) == 0
    parents = [request.parent for request in sent(search_service, catalog_pb2.ListItemsRequest)]
    assert parents == ["catalogs/shop"] * 3 + ["catalogs/delete"]


def test_an_item_is_written_with_its_picture(search_service: FakeSearch, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(picture)
    arguments = ["items", "upsert", "shop", "dress-1", "--image", str(picture)]
    assert run([*arguments, "--set", "price=3", "-s", "colour=red,blue"]) == 0
    assert run([*arguments, "--payload", '{"note": "new"}', "--image-location", "s3://x"]) == 0
    first, second = (r.items[0] for r in sent(search_service, catalog_pb2.BatchUpsertItemsRequest))
    assert (first.item.id, first.content, first.item.image) == ("dress-1", picture.read_bytes(), str(picture))
    assert from_payload(first.item.payload) == {"price": 3.0, "colour": ["red", "blue"]}
    assert (second.item.image, from_payload(second.item.payload)) == ("s3://x", {"note": "new"})


def test_fields_are_set_and_removed_alone_or_all_replaced(search_service: FakeSearch) -> None:
    update = ["items", "update", "shop", "dress-1"]
    assert run([*update, "--set", "price=3", "--unset", "old field"]) == 0
    assert run([*update, "--payload", "{}"]) == 0
    assert run([*update, "--image-location", "new.jpg"]) == 0
    single, whole, place = sent(search_service, catalog_pb2.BatchUpdateItemsRequest)
    assert list(single.update_mask.paths) == ["payload.fields.price", "payload.fields.`old field`"]
    assert from_payload(single.items[0].payload) == {"price": 3.0}
    assert (list(whole.update_mask.paths), whole.items[0].HasField("payload")) == ([], True)
    assert (place.items[0].image, place.items[0].HasField("payload")) == ("new.jpg", False)


def test_items_are_deleted_by_id(search_service: FakeSearch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["items", "delete", "shop", "a", "b", "a"]) == 0
    assert "2 of 2 items existed and are deleted" in capsys.readouterr().out
    [request] = sent(search_service, catalog_pb2.BatchDeleteItemsRequest)
    assert list(request.item_ids) == ["a", "b"]


def test_what_a_filter_finds_is_counted_before_it_is_deleted(
    search_service: FakeSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["items", "delete", "shop", "--filter", "price<5", "--yes"]) == 0
    assert "7 items pass the filter" in capsys.readouterr().out
    counted, deleted = sent(search_service, catalog_pb2.BatchDeleteItemsRequest)
    assert (counted.validate_only, deleted.validate_only) == (True, False)
    assert counted.filter == deleted.filter
    assert deleted.filter.must[0].range.lt.float_value == 5.0


@pytest.mark.parametrize(("said", "deletions"), [(False, 0), (True, 1)])
def test_a_filter_deletes_only_what_was_confirmed(
    search_service: FakeSearch,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    said: bool,
    deletions: int,
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda _question: said)
    assert run(["items", "delete", "shop", "-f", "price<5"]) == 1 - deletions
    assert ("nothing was deleted" in capsys.readouterr().err) is not said
    requests = sent(search_service, catalog_pb2.BatchDeleteItemsRequest)
    assert sum(not request.validate_only for request in requests) == deletions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["delete", "shop"], "either ids or --filter"),
        (["delete", "shop", "a", "-f", "price<5"], "either ids or --filter"),
        (["update", "shop", "a"], "nothing to change"),
        (["update", "shop", "a", "--set", "price=1", "--payload", "{}"], "in a second command"),
        (["update", "shop", "a", "--set", "price=1", "--unset", "price"], "both name 'price'"),
        (
            ["upsert", "shop", "a", "--image", "x", "--set", "price=1", "--payload", "{}"],
            "either it or --set",
        ),
        (["update", "shop", "a", "--set", "price=abc"], "'price=abc': 'abc' is not a number"),
        (["update", "shop", "a", "--set", "stok=3"], "no field 'stok'"),
        (["update", "shop", "a", "--set", "added=2025-13-01"], "'added=2025-13-01'"),
        (["update", "shop", "a", "--set", "price"], "expected FIELD=VALUE"),
        (["update", "shop", "a", "--set", "price=1", "--set", "price=2"], "twice"),
        (["update", "shop", "a", "--payload", "{"], "no JSON"),
        (["update", "shop", "a", "--payload", "[]"], "expected a JSON object"),
        (["shop", "--filter", "prize<50"], "no field 'prize'"),
        (["shop", "--filter", "price=abc"], "is not a number"),
        (["shop", "--cert-file", "x"], "go together"),
    ],
)
def test_options_that_are_written_wrongly_are_wrong_usage_and_nothing_is_sent(
    search_service: FakeSearch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(["items", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert all(isinstance(request, catalog_pb2.GetCatalogRequest) for request in search_service.requests)


def test_an_image_that_is_not_there_is_a_failure(
    search_service: FakeSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["items", "upsert", "shop", "a", "--image", "missing.jpg"]) == 1
    assert "missing.jpg cannot be read" in capsys.readouterr().err
    assert not search_service.requests


def test_a_list_that_is_cut_off_goes_on_with_its_token(
    search_service: FakeSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [f"i{number:04}" for number in range(1210)]

    def page(request: Any, _context: Any) -> catalog_pb2.ListItemsResponse:
        start = int(request.page_token or 0)
        end = start + min(request.page_size, 700)  # a page may end early
        token = str(end) if end < len(ids) else ""
        return catalog_pb2.ListItemsResponse(
            items=[messages.item(item_id) for item_id in ids[start:end]], next_page_token=token
        )

    search_service.answers["ListItems"] = page
    assert run(["items", "shop", "-n", "1200"]) == 0
    assert "more: --page-token 1200\n" in capsys.readouterr().out
    sizes = [request.page_size for request in sent(search_service, catalog_pb2.ListItemsRequest)]
    assert sizes == [1000, 500]
    assert run(["items", "shop", "--page-token", "1200", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [item["id"] for item in answer["items"]] == ids[1200:]
    assert answer["next_page_token"] == ""
    assert run(["items", "shop", "--page-token", "1200"]) == 0
    assert "more:" not in capsys.readouterr().out


def test_items_that_are_not_there_hide_no_others(
    search_service: FakeSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    search_service.answers["BatchGetItems"] = catalog_pb2.BatchGetItemsResponse(
        items=[messages.item("x")], missing_ids=["nope"]
    )
    assert run(["items", "shop", "nope", "x", "--json"]) == 1
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert ([item["id"] for item in answer["items"]], answer["missing"]) == (["x"], ["nope"])
    assert "'nope'" in json.loads(printed.err)["error"]["message"]


def test_a_word_that_is_no_command_is_not_only_taken_for_a_catalog(
    search_service: FakeSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = refuse(grpc.StatusCode.NOT_FOUND, "no catalog 'get'", reason="CATALOG_NOT_FOUND")
    search_service.answers.update(BatchGetItems=missing, ListCatalogs=catalog_pb2.ListCatalogsResponse())
    assert run(["items", "get", "shop", "x"]) == 1
    assert "no command 'get'" in capsys.readouterr().err
    assert run(["items", "list", "get", "x"]) == 1
    assert "no command" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["items", "delete", "shop", "-f", "price<5"], ["catalogs", "delete", "shop"]]
)
def test_what_deletes_asks_only_a_terminal(
    search_service: FakeSearch,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert run(arguments) == 2
    assert "give --yes" in capsys.readouterr().err
    assert not search_service.requests


@pytest.mark.parametrize("command", ["upsert", "update"])
def test_the_error_of_an_item_is_that_of_the_command(
    search_service: FakeSearch, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(picture)
    error = errors_pb2.ItemError(
        code=5, item_id="a", reason=errors_pb2.ITEM_NOT_FOUND, message="there is no item 'a'"
    )
    search_service.answers.update(
        BatchUpsertItems=catalog_pb2.BatchUpsertItemsResponse(errors=[error]),
        BatchUpdateItems=catalog_pb2.BatchUpdateItemsResponse(errors=[error]),
    )
    what = ["--image", str(picture)] if command == "upsert" else ["--set", "stock=1"]
    assert run(["items", command, "shop", "a", *what]) == 1
    assert "there is no item 'a' (ITEM_NOT_FOUND)" in capsys.readouterr().err
