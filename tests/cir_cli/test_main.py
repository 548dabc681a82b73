"""The command against a server on loopback: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image

from cir.payload import GeoPoint, to_payload
from cir.search.v1 import catalog_pb2, search_pb2
from cir_cli.main import flags_of, run, spell_flags
from tests.cir import messages
from tests.cir.fake_search import FakeSearch, refuse

pytestmark = pytest.mark.service


@pytest.fixture(autouse=True)
def answers(search_service: FakeSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIR_SERVER", search_service.address)
    search_service.answers.update(
        Search=messages.search_response(
            messages.item("a/b", price=2.5), messages.item("c"), next_page_token="t"
        ),
        GetCatalog=messages.catalog(),
        ListCatalogs=catalog_pb2.ListCatalogsResponse(catalogs=[messages.catalog()]),
        ListCatalogVersions=catalog_pb2.ListCatalogVersionsResponse(versions=[messages.version("v1")]),
        PublishCatalogVersion=messages.catalog(),
        RollbackCatalog=messages.catalog(),
        DeleteCatalog=catalog_pb2.DeleteCatalogResponse(),
        DeleteCatalogVersion=catalog_pb2.DeleteCatalogVersionResponse(),
        BatchGetItems=catalog_pb2.BatchGetItemsResponse(items=[messages.item("a/b", price=2.5)]),
        ListItems=catalog_pb2.ListItemsResponse(
            items=[messages.item("a"), messages.item("b")], next_page_token="t"
        ),
    )


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and the one line on standard error of a command that fails."""
    code = run(arguments)
    captured = capsys.readouterr()
    assert captured.err.endswith("\n")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return code, captured.err.strip()


def test_search_prints_a_table(search_service: FakeSearch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", "shop", "--item", "x", "--text", "in red", "--limit", "2"]) == 0
    printed = capsys.readouterr().out
    for part in ("a/b", "0.9000", "price=2.5", "lambda 0.50", "by sum", "12.0 ms", "version v2"):
        assert part in printed
    [request] = search_service.requests
    assert (request.turns[0].reference.item_id, request.turns[0].text, request.page_size) == (
        "x",
        "in red",
        2,
    )


def test_search_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", "shop", "-t", "red", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["results"][0] == {
        "rank": 1,
        "score": 0.9,
        "id": "a/b",
        "payload": {"price": 2.5},
        "image": "",
    }
    assert answer["next_page_token"] == "t"
    assert answer["explanation"]["turns"] == [
        {"kind": "composed", "network_lambda": 0.5, "text_tokens": 0, "read_tokens": 0, "contribution": None}
    ]
    assert answer["timings"]["total"] == 0.012


def test_search_sends_turns_filters_and_options(
    search_service: FakeSearch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = tmp_path / "turns.json"
    turns.write_text('[{"item": "first"}]')
    picture = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(picture)
    arguments = ["search", "shop", "--turns", str(turns), "--image", str(picture), "--text", "in red"]
    arguments += ["--text-weight", "0.3", "--like", "p", "--like", "q", "--dislike", "r", "--then", "longer"]
    arguments += ["--combiner", "slerp", "-f", "price<20", "-f", "colour!=red", "--exact"]
    arguments += ["--feedback", "recommend"]
    assert run(arguments) == 0
    request = search_service.requests[-1]
    first, second, third = request.turns
    assert first.reference.item_id == "first"
    assert second.reference.image == picture.read_bytes()
    assert (second.text, second.text_weight) == ("in red", 0.3)
    assert (list(second.liked_item_ids), list(second.disliked_item_ids)) == (["p", "q"], ["r"])
    assert third == search_pb2.Turn(text="longer")
    assert (request.combiner, request.exact) == ("slerp", True)
    assert request.feedback == search_pb2.FEEDBACK_METHOD_RECOMMEND
    assert request.filter.must[0].range.lt.float_value == 20.0
    assert request.filter.must_not[0].match_any.values[0].string_value == "red"


def test_search_writes_a_contact_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    assert run(["search", "shop", "--text", "red", "--sheet", str(sheet)]) == 0
    assert f"contact sheet: {sheet}" in capsys.readouterr().out
    with Image.open(sheet) as written:
        assert written.format == "PNG"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["search", "--text", "x"], 2, "Missing argument 'CATALOG'"),
        (["search", "shop"], 2, "nothing to search for"),
        (["search", "shop", "--item", "", "--text", "red"], 2, "--item is empty"),
        (["search", "shop", "--text", "x", "--limit", "-1"], 2, "Invalid value for '--limit'"),
        (["search", "shop", "--text", "x", "--limit", "99999999999"], 2, "Invalid value for '--limit'"),
        (["search", "shop", "--text", "x", "-f", "size=m"], 2, "no field 'size'"),
        (["search", "shop", "--text", "x", "-f", "price"], 2, "expected FIELD=VALUE"),
        (["search", "shop", "--text", "x", "-f", "price<abc"], 2, "'abc' is not a number"),
        (["search", "shop", "--image", "a.png", "--item", "a"], 2, "one of --image, --item"),
        (["search", "shop", "--text", "x", "--sheet", "/no/such/x.png"], 1, "no folder /no/such"),
        (["search", "shop", "--image", "missing.jpg"], 1, "missing.jpg cannot be read"),
        (["search", "shop", "--text", "x", "--turns", "none.json"], 1, "none.json cannot be read"),
        (["search", "shop", "--text", "x", "--sheet", "/dev/null/x.png"], 1, "cannot be written"),
        (
            ["search", "shop", "--text", "caf\udce9"],
            2,
            r"--text is 'caf\udce9', which is no text in UTF-8",
        ),
        (
            ["search", "shop", "--text", "x", "--like", "\udce9"],
            2,
            r"--like is '\udce9', which is no text",
        ),
        (
            ["search", "shop", "--text", "x", "--filter", "a=\udce9"],
            2,
            r"is 'a=\udce9', which is no text",
        ),
        (["items", "shop", "\udce9"], 2, r"is '\udce9', which is no text in UTF-8"),
        (["items", "delete", "shop", "\udce9"], 2, r"is '\udce9', which is no text in UTF-8"),
        (["serch"], 2, "No such command 'serch'. Did you mean 'search'?"),
        (["catalogs", "rolback"], 2, "No such command 'rolback'. Did you mean 'rollback'?"),
        (["search", "--bogus"], 2, "No such option: --bogus"),
        (["search", "shop", "--limt", "3"], 2, "No such option: --limt. Did you mean '--limit'"),
        (["items", "delete", "--json", "shop", "-f", "a=1"], 2, "--json asks nothing; give --yes"),
        (["catalogs", "delete", "shop", "--json"], 2, "--json asks nothing; give --yes"),
        (["items", "shop", "a", "--filter", "b=c"], 2, "ids name the items to list"),
        (
            ["index", "shop", ".", "--data", "/nowhere"],
            1,
            "nothing is up on /nowhere; where services run on another folder",
        ),
        (["index", "shop", ".", "--parts", "p"], 2, "--parts needs one of"),
        (["index", "shop", ".", "--store", "s", "--embedder", "e:1", "--schema", "a=b"], 2, "has type 'b'"),
        (["search", "shop", "-t", "x", "--sheet", "a.xyz"], 2, "the suffix '.xyz' names no format"),
        (["search", "shop", "-t", "x", "--sheet", "a"], 2, "a name without a suffix"),
        (["search", "shop", "-t", "x", "--sheet", "a.xbm"], 2, "the suffix '.xbm' names no format"),
        (["search", "shop", "-t", "x", "--sheet", "nofolder/a.png"], 1, "there is no folder nofolder"),
    ],
)
def test_errors_are_one_line_and_no_success(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    exit_code, line = failed(capsys, *arguments)
    assert exit_code == code
    if "--json" in arguments:
        error = json.loads(line)["error"]
        assert message in error["message"]
        assert error["exit_code"] == code
    else:
        assert line.startswith("cir: ")
        assert message in line


def test_errors_of_the_server_are_told(
    search_service: FakeSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    search_service.answers["Search"] = refuse(
        grpc.StatusCode.NOT_FOUND, "no catalog 'shop';\nindex it first", reason="CATALOG_NOT_FOUND"
    )
    assert failed(capsys, "search", "shop", "--text", "x") == (
        1,
        "cir: no catalog 'shop'; index it first",
    )


def test_refusals_name_options_in_place_of_fields(
    search_service: FakeSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    search_service.answers["Search"] = refuse(
        grpc.StatusCode.INVALID_ARGUMENT, "page_size is 1000", reason="OUT_OF_RANGE", field="page_size"
    )
    assert failed(capsys, "search", "shop", "--text", "x", "-n", "1000") == (1, "cir: --limit is 1000")
    search_service.answers["ListItems"] = search_service.answers["ListCatalogs"] = refuse(
        grpc.StatusCode.UNAUTHENTICATED, "an API key is needed", reason="KEY_MISSING"
    )
    for command in ("items", "shop"), ("catalogs",):
        assert "--api-key or CIR_API_KEY" in failed(capsys, *command)[1]
    away = failed(capsys, "items", "shop", "--server", "127.0.0.1:1")
    assert away[0] == 1
    assert "--server or CIR_SERVER" in away[1]


def test_names_that_are_spelled_alike_are_told(
    search_service: FakeSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = refuse(grpc.StatusCode.NOT_FOUND, "no catalog 'shp'", reason="CATALOG_NOT_FOUND")
    search_service.answers.update(
        Search=missing, GetCatalog=missing, ListItems=missing, ListCatalogVersions=missing,
        RollbackCatalog=missing,
    )  # fmt: skip
    for command in (
        ["search", "shp", "-t", "x"],
        ["search", "shp", "-t", "x", "-f", "price<3"],
        ["items", "shp"],
        ["catalogs", "versions", "shp"],
        ["catalogs", "rollback", "shp"],
    ):
        assert failed(capsys, *command) == (1, "cir: no catalog 'shp'; did you mean 'shop'?")
    assert failed(capsys, "items", "garments") == (1, "cir: no catalog 'shp'")
    search_service.answers["Search"] = refuse(
        grpc.StatusCode.NOT_FOUND, "no combiner 'slrp'", reason="COMBINER_NOT_FOUND"
    )
    search_service.answers["GetSearchInfo"] = search_pb2.GetSearchInfoResponse(combiners=["slerp", "sum"])
    line = "cir: no combiner 'slrp'; there are also: slerp, sum; did you mean 'slerp'?"
    assert failed(capsys, "search", "shop", "--item", "a", "-t", "x", "--combiner", "slrp") == (1, line)
    # A service that does not answer the second question hides the first answer from nobody.
    del search_service.answers["GetSearchInfo"]
    asked = ("search", "shop", "--item", "a", "-t", "x", "--combiner", "slrp")
    assert failed(capsys, *asked) == (1, "cir: no combiner 'slrp'")


def test_a_fault_of_the_program_is_one_line_too(
    search_service: FakeSearch, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("oh")

    monkeypatch.setattr("cir_cli.options.Connection.open", broken)
    code, line = failed(capsys, "search", "shop", "--text", "x")
    assert (code, line) == (70, "cir: internal error (KeyError: 'oh'); please report it")


def test_ctrl_c_ends_a_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cir_cli.options.Connection.open", interrupted)
    assert run(["search", "shop", "--text", "x"]) == 130


def test_catalogs_are_listed(search_service: FakeSearch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["catalogs"]) == 0
    printed = capsys.readouterr().out
    for part in ("shop", "v2", "7", "ViT-B-32/openai", "colour:keyword", "price:float"):
        assert part in printed
    assert run(["catalogs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["catalogs"][0]["published"]["item_count"] == 7
    search_service.answers["ListCatalogs"] = catalog_pb2.ListCatalogsResponse(
        catalogs=[catalog_pb2.Catalog(name="catalogs/new")]
    )
    assert run(["catalogs"]) == 0
    assert "new" in capsys.readouterr().out
    search_service.answers["ListCatalogs"] = catalog_pb2.ListCatalogsResponse()
    assert run(["catalogs"]) == 0
    assert "no catalogs yet; make one with: cir index" in capsys.readouterr().out


def test_versions_are_listed_published_and_rolled_back(
    search_service: FakeSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["catalogs", "versions", "shop"]) == 0
    assert "2026-03-04 05:06:07Z" in capsys.readouterr().out
    assert run(["catalogs", "publish", "shop", "v1"]) == 0
    assert search_service.requests[-1].name == "catalogs/shop/versions/v1"
    assert run(["catalogs", "rollback", "shop"]) == 0
    assert "version v2 is published again" in capsys.readouterr().out


def test_a_catalog_is_deleted_only_when_that_is_meant(
    search_service: FakeSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["catalogs", "delete", "shop", "--version", "v1"]) == 0
    assert run(["catalogs", "delete", "shop", "--yes"]) == 0
    assert [request.name for request in search_service.requests] == [
        "catalogs/shop/versions/v1",
        "catalogs/shop",
    ]


def test_items_are_shown(search_service: FakeSearch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["items", "shop", "a/b"]) == 0
    assert "price=2.5" in capsys.readouterr().out
    # The item, and the catalog whose fields say how its values are written.
    asked, catalog = search_service.requests[-2:]
    assert (list(asked.item_ids), catalog.name) == (["a/b"], "catalogs/shop")
    assert run(["items", "shop", "-n", "3", "-f", "stock=1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["items"]
    assert [item["id"] for item in shown] == ["a", "b", "a", "b"]


def test_help_and_version_succeed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    assert "composed" in capsys.readouterr().out.lower()
    assert run(["--version"]) == 0
    capsys.readouterr()
    for words in ([], ["keys"], ["dataset"]):
        assert run(words) == 2
        captured = capsys.readouterr()
        assert "Usage: cir" in captured.out + captured.err
        assert "wrong usage" not in captured.err


@pytest.mark.parametrize(
    ("command", "message", "shown"),
    [
        (["train"], "give a smaller `batch_size` or `hidden_dim`", "give a smaller --batch-size or --hidden"),
        (["index"], "`rejects_path`, `allow_hosts` and `sync`", "--rejects, --allow-host and --sync"),
        (["features", "extract"], "set `fresh` to replace them", "set --fresh to replace them"),
        (["index"], "`ray start --head` and `no_option`", "`ray start --head` and `no_option`"),
        (["search"], "nothing called `fresh`", "nothing called `fresh`"),
    ],
)
def test_parameters_that_a_library_names_are_shown_as_flags(
    command: list[str], message: str, shown: str
) -> None:
    assert spell_flags(message, flags_of([*command, "--quiet", "x"])) == shown


def test_search_goes_on_where_large_results_end_a_page_early(
    search_service: FakeSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    def page(request: Any, _context: Any) -> search_pb2.SearchResponse:
        # Three fit into a page; the token goes on behind what the page holds.
        first = int(request.page_token or 1)
        ranks = range(first, min(first + min(request.page_size, 3), 10))
        results = [search_pb2.SearchResult(item=messages.item(f"i{n}"), score=0.5, rank=n) for n in ranks]
        return search_pb2.SearchResponse(
            results=results, next_page_token=str(ranks.stop) if ranks.stop < 10 else ""
        )

    search_service.answers["Search"] = page
    assert run(["search", "shop", "--text", "x", "-n", "4", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [result["id"] for result in answer["results"]] == ["i1", "i2", "i3", "i4"]
    assert answer["next_page_token"] == "5"
    assert run(["search", "shop", "--text", "x", "-n", "40", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["results"]) == 9


def test_numbers_are_shown_with_all_their_digits(
    search_service: FakeSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = to_payload(
        {"price": 19999.95, "sum": 1234567.89, "n": 2**53 + 1, "at": GeoPoint(1.23456789, 2)}
    )
    item = catalog_pb2.Item(id="a", payload=payload)
    search_service.answers["ListItems"] = catalog_pb2.ListItemsResponse(items=[item])
    assert run(["items", "shop"]) == 0
    shown = capsys.readouterr().out
    for text in ("price=19999.95", "sum=1234567.89", "n=9007199254740993", "at=1.23456789,2.0"):
        assert text in shown
