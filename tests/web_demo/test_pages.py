"""The pages over HTTP, with a search client in memory: where one begins, and turn after turn."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from tests.web_demo.in_memory import (
    Search,
    demo_client,
    only,
    press,
)
from web_demo.settings import DemoSettings


def test_the_start_page_has_every_way_to_start(client: TestClient, search: Search) -> None:
    page = client.get("/").text
    assert page.count('class="card') == 3
    # Pictures wait for the style: over a slow network they would keep the page from being seen.
    assert page.count('loading="lazy"') == page.count("<img ") - 1 - page.count('<img alt="your picture"')
    assert 'name="x"' in page
    assert 'type="file" name="picture"' in page
    assert press(client, page, "toggle", "colour:red") == "/?c=shop&f=colour%3Ared"
    assert press(client, page, "from", "i2") == "/?c=shop&i0=i2"
    assert press(client, page, "others", "1") == "/?c=shop&s=1"
    assert [option for option in ("shop", "other", "empty") if f">{option}<" in page] == ["shop", "other"]
    assert search.asked[0]["features"].shape == (4,)
    again = client.get("/?s=5")
    assert (search.asked[-1]["features"] != search.asked[0]["features"]).any()
    assert again.status_code == 200


def test_walls_of_a_round_have_no_item_in_common(client: TestClient, search: Search) -> None:
    client.get("/?c=other&s=2&f=colour%3Ared")
    assert [asked["exclude"] for asked in search.asked] == [(), ("i1", "i2", "i3"), ("i1", "i2", "i3") * 2]
    client.get("/?c=other&s=13&f=colour%3Ared")  # 40 items make 13 walls of 3
    assert search.asked[3]["exclude"] == ()
    assert len(search.asked) == 4


def test_results_are_told_from_afar_and_reached_at_once(client: TestClient) -> None:
    page = client.get("/?c=shop&i0=i3&x0=red").text
    assert '<a class="skip" href="#answers">' in page
    assert 'id="answers" tabindex="-1"' in page
    assert re.search(r'role="status" data-shown="[^"]*">3 results<', page)
    assert "aria-live" not in page
    # The reference by its name, and as one's own only where it is.
    assert 'class="steps"' in page
    strip = page[page.index('class="steps"') : page.index('class="box"')]
    assert re.search(r'<img src="picture[^"]*" alt="&lt;script&gt;', strip)
    assert "your picture" not in strip
    assert "0.33" not in page  # no raw scores


def test_a_conversation_is_asked_turn_by_turn(client: TestClient, search: Search) -> None:
    query = urlencode(
        [
            ("c", "shop"),
            ("i0", "a"),
            ("x0", "in red"),
            ("l0", "b"),
            ("x1", "longer"),
            ("w1", "30"),
            ("e", "z"),
            ("f", "colour:red"),
            ("m", "slerp"),
            ("v", "sum"),
        ]
    )
    page = client.get(f"/?{query}").text
    first, second = search.asked
    assert (first["combiner"], second["combiner"]) == ("slerp", "sum")
    turns = first["turns"]
    assert [(turn.item, turn.text, tuple(turn.liked), turn.text_weight) for turn in turns] == [
        ("a", "in red", ("b",), None),
        ("", "longer", (), 0.3),
    ]
    assert first["where"] == only("colour", "red")
    assert first["exclude"] == ("z",)
    assert page.count('class="answer"') == 2
    assert client.get("/?c=shop&x0=red&v=sum").text.count('class="answer"') == 1  # the default one, compared
    search.asked[2:] = []
    assert "<b>75 %</b> what you said before, <b>25 %</b> your words" in page
    assert 'id="1r1"' in page
    assert 'id="2r1"' in page
    more = client.get(f"/more?{query}&by=slerp&token=next&mark=2").text
    assert search.asked[-1]["page_token"] == "next"
    assert 'id="2r4"' in more
    assert "data-token" not in more


@pytest.mark.parametrize(
    ("set_", "others", "first"),
    [
        ("", {"added": (1, 5)}, "added"),
        ("", {"added": (1, 5), "later": (2, 5), "before": (-1, 5)}, "later"),
        # One that was created by a call and waits for its items is not the one to show.
        ("", {"created": (1, 0)}, "shop"),
        ("other", {"added": (1, 5)}, "other"),
        ("not-there", {"added": (1, 5)}, "added"),
    ],
)
def test_the_page_begins_with_the_catalog_that_is_set_or_else_with_the_newest(
    search: Search, tmp_path: Path, set_: str, others: dict[str, tuple[int, int]], first: str
) -> None:
    search.others = others
    with demo_client(DemoSettings(catalog=set_, data=tmp_path / "web"), search, tmp_path) as client:
        assert f"<option selected>{first}</option>" in client.get("/").text
        assert f"<dd>{first}, " in client.get("/about").text
        assert "<option selected>shop</option>" in client.get("/?c=shop").text


def test_a_catalog_without_items_says_what_to_do(client: TestClient, search: Search) -> None:
    search.others, search.nothing = {"new": (1, 0)}, True
    for path in ("/?c=new", "/?c=new&x0=hat"):
        page = client.get(path).text
        assert "no items yet" in page
        assert "<code>cir index new PICTURES</code>" in page
        assert "Take a filter away" not in page
        assert 'name="others"' not in page
    assert "Take a filter away" in client.get("/?c=shop&x0=hat").text


@pytest.mark.parametrize(
    ("folders", "image", "has_none"),
    [
        ((), "", True),
        ((), "i9.png", True),
        (("/srv/pictures",), "", False),
        ((), "https://a.b/i9.png", False),
    ],
)
def test_a_catalog_without_pictures_says_why_and_has_examples_in_words(
    client: TestClient, search: Search, folders: tuple[str, ...], image: str, has_none: bool
) -> None:
    search.folders = folders
    search.written = dict.fromkeys(("i1", "i2", "i3"), image)
    search.payload = {"colour": "red"}
    search.payloads = {"i2": {"colour": "blue"}, "i9": {"colour": "red"}}
    page = client.get("/?c=other").text
    assert ("has none to show" in page) == has_none
    (first, *_) = re.findall(r'<section class="examples".*?</section>', page, re.DOTALL)
    assert ("<img" not in first) == has_none
    assert ('<span class="of" dir="auto">red</span>' in first) == has_none


def test_the_catalogs_own_combiner_is_the_one_that_is_not_named(client: TestClient, search: Search) -> None:
    search.own = {"other": "image"}
    for catalog, weight in (("shop", 0.3), ("other", None)):
        client.get(f"/?c={catalog}&i0=i1&x0=hat&w0=30")
        assert search.asked[-1]["turns"][0].text_weight == weight
        client.get(f"/?c={catalog}&i0=i1&x0=hat&w0=30&m=slerp")
        assert search.asked[-1]["turns"][0].text_weight == 0.3
    search.named = "image"
    assert 'name="weight"' not in client.get("/?c=other&x0=hat").text
    assert client.get("/?c=other&x0=hat&v=image").text.count('class="answer"') == 1
    assert client.get("/?c=other&x0=hat&v=sum").text.count('class="answer"') == 2
    assert "<dd>image</dd>" in client.get("/about?c=other").text


def test_an_address_without_a_catalog_means_the_first_and_keeps_all_else(
    client: TestClient, search: Search
) -> None:
    page = client.get("/?x0=a&l0=b&f=colour%3Ared&e=z&m=slerp&v=sum&s=5").text
    assert [(asked["catalog"], asked["combiner"]) for asked in search.asked] == [
        ("shop", "slerp"),
        ("shop", "sum"),
    ]
    assert [(asked["exclude"], asked["where"]) for asked in search.asked] == [
        (("z",), only("colour", "red"))
    ] * 2
    assert 'value="c=shop&amp;x0=a&amp;l0=b&amp;f=colour%3Ared&amp;e=z&amp;m=slerp&amp;v=sum&amp;s=5"' in page


@pytest.mark.parametrize("address", ["/", "/?c=shop"])
def test_nothing_published_is_a_page_that_tries_again(
    client: TestClient, search: Search, address: str
) -> None:
    search.published = False
    answer = client.get(address)
    assert answer.status_code == 503
    assert "index a catalog first" in answer.text
    assert "cir index shop" in answer.text
    assert "data-retry" in answer.text
    assert client.get("/about").status_code == 200


def test_catalogs_are_asked_for_once_in_a_while(client: TestClient, search: Search) -> None:
    for url in ("/", "/?c=shop&x0=a", "/?c=other&x0=a", "/about"):
        assert client.get(url).status_code == 200
    assert search.catalog_calls == 1


def test_what_was_said_gets_its_place_in_the_address(client: TestClient) -> None:
    answer = client.get("/?c=shop&i0=a&x0=in+red&x=longer")
    assert answer.status_code == 303
    assert answer.headers["location"] == "./?c=shop&i0=a&x0=in+red&x1=longer"


def test_a_new_branch_starts_from_an_earlier_turn(client: TestClient) -> None:
    page = client.get("/?c=shop&x0=a+dress&x1=in+blue").text
    branches = re.findall(r'href="([^"]*)" target="_blank"', page)
    assert branches == ["./?c=shop&amp;x0=a+dress"]
