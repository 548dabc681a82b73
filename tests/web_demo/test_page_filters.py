"""Filters on a page: chosen, counted, loosened, and kept in links."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import pytest
from PIL import Image
from starlette.testclient import TestClient

from cir.filters import Filter, MatchAny, Range
from tests.web_demo.in_memory import (
    Search,
    only,
    press,
)


@pytest.mark.parametrize(
    "location",
    [
        "{outside}/secret.png",
        "{folder}/../{name}/secret.png",
        "{folder}/link.png",
        "{folder}/linked/secret.png",
        "{folder}-evil/secret.png",
        "secret.png",
        "../{name}/secret.png",
        "%2E%2E/{name}/secret.png",
        "file://{outside}/secret.png",
        "{folder}/pipe.png",
        "/dev/zero",
        "/proc/self/cwd/secret.png",
    ],
)
def test_an_item_written_online_makes_the_page_read_no_other_file(
    client: TestClient,
    search: Search,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    location: str,
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    evil = Path(f"{tmp_path}-evil")
    evil.mkdir(exist_ok=True)
    for folder in (outside, evil):
        Image.new("RGB", (9, 9), "red").save(folder / "secret.png")
    (tmp_path / "link.png").symlink_to(outside / "secret.png")
    (tmp_path / "linked").symlink_to(outside)
    os.mkfifo(tmp_path / "pipe.png")
    monkeypatch.chdir(outside)
    search.written["planted"] = location.format(folder=tmp_path, outside=outside, name=outside.name)
    for path in ("/picture?c=shop&i=planted", "/picture?c=other&i=planted"):
        assert client.get(path).status_code == 404
    assert client.get("/picture?c=shop&i=i1").status_code == 200
    # The place of the secret itself is refused, not its name.
    search.written["own"] = str(tmp_path / "i1.png")
    assert client.get("/picture?c=shop&i=own").status_code == 200


def test_a_field_with_a_colon_filters_and_can_be_taken_back(client: TestClient, search: Search) -> None:
    search.schema = {"g:colour": "keyword"}
    page = client.get("/?c=shop").text
    chosen = press(client, page, "toggle", "g%3Acolour:red")
    page = client.get(chosen).text
    assert search.asked[-1]["where"] == only("g:colour", "red")
    assert press(client, page, "toggle", "g%3Acolour:red") == "/?c=shop"
    assert press(client, page, "clear", "1") == "/?c=shop"


def test_counts_are_those_under_the_other_filters(client: TestClient, search: Search) -> None:
    search.schema = {"colour": "keyword", "kind": "keyword", "price": "float"}
    page = client.get("/?c=shop&x0=a&f=colour%3Ared&f=price%3A10..").text
    priced = Filter(must=[Range("price", gte=10.0)])
    both = Filter(must=[MatchAny("colour", ["red"]), Range("price", gte=10.0)])
    assert search.counted == [(["colour", "kind"], None), (["colour"], priced), (["kind"], both)]
    assert "<small>3</small>" in page
    client.get("/?c=shop&x0=b&f=colour%3Ared&f=price%3A10..")
    assert len(search.counted) == 3


def test_numbers_and_days_are_filtered_by_range(client: TestClient, search: Search) -> None:
    search.schema = {"price": "float", "stock": "integer", "added": "datetime"}
    page = client.get("/?c=shop&x0=a").text
    assert press(client, page, "within", "price", low="10", high="49.5") == "/?c=shop&x0=a&f=price%3A10..49.5"
    page = client.get("/?c=shop&x0=a&f=price%3A10..49.5&f=stock%3A3..&f=added%3A..2024-05-01").text
    assert search.asked[-1]["where"] == Filter(
        must=[
            Range("price", gte=10.0, lte=49.5),
            Range("stock", gte=3),
            Range("added", lt=datetime(2024, 5, 2, tzinfo=UTC)),
        ]
    )
    assert "price: 10 – 49.5" in page
    assert 'name="high" value="49.5"' in page
    unknown = client.get("/?c=shop&x0=a&f=price%3Ax..9&f=stock%3A1.5..").text
    assert search.asked[-1]["where"] is None
    assert unknown.count("no such filter") == 1


def test_nothing_found_offers_what_to_loosen(client: TestClient, search: Search) -> None:
    search.nothing = True
    page = client.get("/?c=shop&x0=a&f=colour%3Ared").text
    assert "Nothing matches" in page
    empty = page[page.index('class="empty"') :]
    assert 'name="clear"' in empty
    assert 'value="colour:red"' in empty


def test_filters_that_a_catalog_does_not_have_are_said(client: TestClient, search: Search) -> None:
    query = urlencode(
        [("c", "shop"), ("x0", "hat"), ("f", "gone:x"), ("f", "colour:mauve"), ("f", "colour:red")]
    )
    page = client.get(f"/?{query}").text
    assert search.asked[-1]["where"] == only("colour", "mauve", "red")
    (said,) = re.findall(r'<p class="unknown" role="status">(.*?)</p>', page, re.DOTALL)
    assert "This catalog has no such filter" in said
    assert "gone: x" in said
    assert "colour: mauve" not in said
    without = client.get(press(client, page, "toggle", "gone:x")).text
    assert "no such filter" not in without
    # One that is set and no chip of a facet can be taken away as well.
    assert press(client, without, "toggle", "colour:mauve") == "/?c=shop&x0=hat&f=colour%3Ared"


def test_a_link_loses_only_what_is_gone(client: TestClient, search: Search) -> None:
    upload = "0" * 32
    page = client.get(f"/?c=shop&u0={upload}&x0=in+red&i1=missing&x1=longer&l1=i2&d1=gone&e=gone&e=i3").text
    assert "Items of this link that are no longer in the catalog: 2" in page
    assert "A picture of this link was deleted" in page
    assert [(turn.item, turn.text, turn.liked) for turn in search.asked[-1]["turns"]] == [
        ("", "in red", ()),
        ("", "longer", ("i2",)),
    ]
    assert search.asked[-1]["exclude"] == ("i3",)
    assert client.get("/?c=shop&i0=missing").status_code == 200
