"""Ways on from every page: buttons, languages, titles, examples."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import urljoin

import pytest
from starlette.testclient import TestClient

from tests.web_demo.in_memory import (
    Search,
    press,
    shipped_model,
)


def test_thumbnails_are_in_the_kind_that_the_browser_takes(client: TestClient) -> None:
    webp = client.get("/picture?c=shop&i=i1", headers={"accept": "image/avif,image/webp,*/*"})
    assert webp.headers["content-type"] == "image/webp"
    assert (
        client.get("/picture?c=shop&i=i1", headers={"accept": "*/*"}).headers["content-type"] == "image/jpeg"
    )
    assert webp.headers["vary"] == "Accept"


def test_chinese_is_spoken_to_those_who_ask_for_it(client: TestClient) -> None:
    answer = client.get("/", headers={"accept-language": "zh-CN,en;q=0.5"})
    assert '<html lang="zh">' in answer.text
    assert "像这件" in answer.text


@pytest.mark.parametrize("language", ["zh-TW", "zh-HK", "zh-Hant-CN"])
def test_traditional_chinese_is_another_language(client: TestClient, language: str) -> None:
    assert "像這件" in client.get("/", headers={"accept-language": f"{language},zh;q=0.5"}).text


def test_the_language_is_switched_and_stays(client: TestClient) -> None:
    page = client.get("/?c=shop&x0=hat").text
    carried = re.search(r'name="q" value="([^"]*)"', page)
    assert carried
    answer = client.post("/go", data={"q": unescape(carried[1]), "language": "zh"})
    assert answer.headers["location"] == "./?c=shop&x0=hat&h=zh"
    page = client.get("/?c=shop&x0=hat&h=zh").text
    assert '<html lang="zh">' in page
    assert press(client, page, "from", "i2").endswith("&h=zh")


def test_what_was_judged_lies_in_a_tray_and_is_taken_back(client: TestClient) -> None:
    page = client.get("/?c=shop&x0=hat&l0=i7&d0=i8&e=i9").text
    tray = page[page.index('class="tray"') : page.index('class="options"')]
    assert re.findall(r'name="(\w+)"\s+value="(\w+)"', tray) == [
        ("like", "i7"),
        ("dislike", "i8"),
        ("hide", "i9"),
    ]
    for name, value, left in (
        ("like", "i7", "/?c=shop&x0=hat&d0=i8&e=i9"),
        ("dislike", "i8", "/?c=shop&x0=hat&l0=i7&e=i9"),
        ("hide", "i9", "/?c=shop&x0=hat&l0=i7&d0=i8"),
    ):
        assert press(client, page, name, value) == left


def test_every_page_has_a_way_on_that_works(client: TestClient, search: Search) -> None:
    for path in (
        "/?c=nothing",
        "/?c=nothing&x0=hat",
        "/item?c=shop&i=missing",
        "/a/b",
        "/?w0=900",
        "/?h=%2F",
    ):
        page = client.get(path).text
        ways = re.findall(r'<a class="button[^"]*" href="([^"]*)"', page)
        assert ways
        for way in ways:
            assert client.get(urljoin(f"http://testserver{path}", unescape(way))).status_code == 200
    item = client.get("/item?c=shop&x0=hat&l0=i2&i=i3").text
    assert 'href="./?c=shop&amp;x0=hat&amp;l0=i2"' in item
    assert press(client, item, "from", "i3") == "/?c=shop&x0=hat&l0=i2&i1=i3"


def test_examples_are_those_that_work(client: TestClient, search: Search) -> None:
    search.payload = {"colour": "red"}
    assert 'class="examples"' not in client.get("/?c=shop").text  # nothing blue is found
    search.payloads = {"i2": {"colour": "blue"}, "i9": {"colour": "red"}}
    page = client.get("/?c=other").text
    (first, *_) = re.findall(r'<section class="examples".*?</section>', page, re.DOTALL)
    assert 'href="./?c=other&amp;i0=i9&amp;x0=in+blue"' in first
    assert "“in blue”" in first
    asked = len(search.asked)
    client.get("/?c=other")
    assert len(search.asked) == asked  # the wall is kept as well
    assert 'class="examples"' not in client.get("/?c=other&s=3").text


def test_the_small_model_says_that_it_is_small(client: TestClient, search: Search) -> None:
    assert "comes with the software" not in client.get("/").text
    search.model = shipped_model()
    with_model = client.get("/?c=other").text
    assert "comes with the software" in with_model
    assert "cir up --model" in with_model
    assert "knows English words alone" in client.get("/?c=other&x0=%E7%BA%A2%E8%89%B2").text
    assert "knows English words alone" not in client.get("/?c=other&x0=red").text


def test_titles_tell_the_pages_apart(client: TestClient) -> None:
    paths = (
        "/?c=shop",
        "/?c=other",
        "/?c=shop&x0=hat",
        "/?c=shop&x0=bag",
        "/item?c=shop&i=i1",
        "/about",
        "/x",
    )
    titles = [re.findall(r"<title>(.*?)</title>", client.get(path).text)[0] for path in paths]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    ("name", "value", "fields", "location"),
    [
        ("catalog", "other", {}, "./?c=other&x0=hat&x1=red"),
        ("catalog", "shop", {}, "./?c=shop&i0=a&x0=hat&x1=red&w1=30"),
        ("edit", "0", {"text": "cap"}, "./?c=shop&i0=a&x0=cap&x1=red&w1=30"),
        ("edit", "1", {"text": " "}, "./?c=shop&i0=a&x0=hat"),
        ("drop", "0", {}, "./?c=shop&x0=red&w0=30"),
        ("weigh", "set", {"weight": "75"}, "./?c=shop&i0=a&x0=hat&x1=red&w1=75"),
        ("weigh", "auto", {"weight": "75"}, "./?c=shop&i0=a&x0=hat&x1=red"),
        ("methods", "1", {"combiner": "sum", "versus": "sum"}, "./?c=shop&i0=a&x0=hat&x1=red&w1=30&m=sum"),
        ("try", "longer", {"x": "typed"}, "./?c=shop&i0=a&x0=hat&x1=red&w1=30&x2=longer"),
    ],
)
def test_every_button_leads_to_an_address(
    client: TestClient, name: str, value: str, fields: dict[str, str], location: str
) -> None:
    carried = "c=shop&i0=a&x0=hat&x1=red&w1=30"
    answer = client.post("/go", data={"q": carried, name: value, **fields})
    assert answer.headers["location"] == location


@pytest.mark.parametrize(
    "fields", [{"edit": "7"}, {"drop": "-1"}, {"weigh": "set"}, {"toggle": "x"}, {"q": "w0=x"}]
)
def test_what_no_button_sends_is_refused(client: TestClient, fields: dict[str, str]) -> None:
    assert client.post("/go", data={"q": "c=shop&x0=hat", **fields}).status_code == 400
