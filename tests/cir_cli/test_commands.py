"""Rules of every command: --json, groups of options, where a catalog stands, what a profile gives."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.main import get_command

from cir import requests
from cir.search.v1 import catalog_pb2
from cir_cli.main import app, run
from cir_cli.options import CONNECTION
from cir_cli.profiles import KEYS, variable
from cir_cli.search import NO_FLAGS
from tests.cir import messages
from tests.cir.fake_search import FakeSearch

_MANY_OPTIONS = 10
_WITHOUT_JSON = {("demo",): "is a show for people: it draws, searches and prints tables and sheets"}


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words."""
    command = get_command(app) if command is None else command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))
    if not hasattr(command, "commands"):
        yield path, command


def options(command: Any) -> list[Any]:
    """The options of a command, without --help."""
    return [each for each in command.params if each.param_type_name == "option" and each.name != "help"]


EVERY = dict(commands())


def test_every_command_prints_json() -> None:
    without = {
        path for path, command in EVERY.items() if not any("--json" in each.opts for each in options(command))
    }
    assert without == set(_WITHOUT_JSON)
    assert all(_WITHOUT_JSON.values())


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_many_options_stand_in_groups(path: tuple[str, ...]) -> None:
    offered = options(EVERY[path])
    if len(offered) > _MANY_OPTIONS:
        assert [each.opts[0] for each in offered if not each.rich_help_panel] == []


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_a_catalog_is_the_first_argument(path: tuple[str, ...]) -> None:
    arguments = [each for each in EVERY[path].params if each.param_type_name == "argument"]
    of_catalogs = [each for each in arguments if each.metavar == "CATALOG"]
    assert of_catalogs == arguments[: len(of_catalogs)]
    assert len(of_catalogs) <= 1
    named_by_option = [each.opts for each in options(EVERY[path]) if "--catalog" in each.opts]
    assert not named_by_option or path == ("keys", "new")  # catalogs that a key is for


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_what_a_profile_holds_is_what_the_variable_of_the_same_name_holds(path: tuple[str, ...]) -> None:
    for each in EVERY[path].params:
        if each.name in KEYS:
            assert each.envvar == variable(each.name)
        elif each.envvar in map(variable, KEYS):
            raise AssertionError(f"{each.name} has the variable of a profile's key, and not its name")


@pytest.mark.parametrize(
    "words", [("catalogs", "delete"), ("items", "delete"), ("index",), ("catalogs", "copy")]
)
def test_no_profile_names_the_catalog_of_a_command_that_changes_something(words: tuple[str, ...]) -> None:
    assert "catalog" not in {each.name for each in EVERY[words].params}


def test_everything_that_a_search_takes_is_an_option_or_says_why_it_is_none() -> None:
    spelled = {"liked": "like", "disliked": "dislike", "page_size": "limit"}
    offered = {each.name for each in EVERY["search",].params}
    taken = set(inspect.signature(requests.search).parameters)
    assert set(NO_FLAGS) <= taken
    assert {spelled.get(name, name) for name in taken - set(NO_FLAGS)} <= offered


@pytest.mark.service
def test_what_is_printed_as_json_is_one_object_with_keys_that_stay(
    search_service: FakeSearch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CIR_SERVER", search_service.address)
    empty = catalog_pb2.ListItemsResponse()
    search_service.answers.update(
        Search=messages.search_response(messages.item("a")),
        GetCatalog=messages.catalog(),
        ListCatalogs=catalog_pb2.ListCatalogsResponse(catalogs=[messages.catalog()]),
        ListCatalogVersions=catalog_pb2.ListCatalogVersionsResponse(versions=[messages.version("v1")]),
        PublishCatalogVersion=messages.catalog(),
        RollbackCatalog=messages.catalog(),
        DeleteCatalog=catalog_pb2.DeleteCatalogResponse(),
        DeleteCatalogVersion=catalog_pb2.DeleteCatalogVersionResponse(),
        ListItems=empty,
        BatchGetItems=catalog_pb2.BatchGetItemsResponse(items=[messages.item("a")]),
        BatchUpsertItems=catalog_pb2.BatchUpsertItemsResponse(written=1),
        BatchUpdateItems=catalog_pb2.BatchUpdateItemsResponse(updated=1),
        BatchDeleteItems=catalog_pb2.BatchDeleteItemsResponse(deleted=1),
    )
    image = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(image)
    item, published, deleted = {"catalog", "id", "state"}, {"catalog", "published"}, {"catalog", "deleted"}
    listed = {"catalog", "items", "missing", "next_page_token"}
    for words, keys in (
        (
            ["search", "shop", "-t", "x"],
            {"results", "next_page_token", "explanation", "timings", "query_vector"},
        ),
        (["catalogs"], {"catalogs"}),
        (["catalogs", "list"], {"catalogs"}),
        (["catalogs", "versions", "shop"], {"catalog", "versions"}),
        (["catalogs", "publish", "shop", "v2"], published),
        (["catalogs", "rollback", "shop"], published),
        (["catalogs", "delete", "shop", "--version", "v1"], {*deleted, "version"}),
        (["catalogs", "delete", "shop", "--yes"], {*deleted, "version"}),
        (["items", "shop"], listed),
        (["items", "shop", "a"], listed),
        (["items", "list", "shop"], listed),
        (["items", "upsert", "shop", "a", "--image", str(image)], item),
        (["items", "update", "shop", "a", "--payload", "{}"], item),
        (["items", "delete", "shop", "a"], deleted),
        (["items", "delete", "shop", "--filter", "price<3", "--yes"], deleted),
        (["keys", "new", "--name", "x"], {"key", "name", "scope", "sha256", "catalogs"}),
        (["config", "show"], {"file", "profile", "profiles", "settings"}),
        (["doctor", "--data", str(tmp_path)], {"ok", "findings"}),
    ):
        code = run([*words, "--json"])
        captured = capsys.readouterr()
        assert set(json.loads(captured.out)) == keys, words
        assert code == 0 or words[0] == "doctor", captured.err


def test_an_error_in_json_has_the_same_keys_whoever_reports_it(capsys: pytest.CaptureFixture[str]) -> None:
    keys = {"message", "exit_code", "code", "reason", "field", "retry_after", "request_id"}
    for words, code in ((["search", "--json"], 2), (["models", "list", "/nonexistent", "--json"], 1)):
        assert run(words) == code
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        document = json.loads(captured.err)
        assert set(document) == {"error"}
        assert set(document["error"]) == keys
        assert document["error"]["exit_code"] == code


def test_help_shows_the_titles_of_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", "--help"]) == 0
    shown = capsys.readouterr().out
    for title in ("What to search for", "Which items are left out", CONNECTION):
        assert f" {title} ──" in shown
