"""The pages over HTTP, with a search client that answers from memory."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin
from xml.etree import ElementTree

import grpc
import pytest
from PIL import Image
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message

from cir.errors import CirError, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from cir.filters import Filter, HasId, MatchAny, Range
from cir.models import (
    Catalog,
    Contribution,
    Explanation,
    FacetCount,
    Item,
    Items,
    ModelInfo,
    Result,
    ResultExplanation,
    SearchAnswer,
    SearchInfo,
    Timings,
    TurnExplanation,
    Version,
)
from service_runtime.errors import StartupError
from service_runtime.web_images import Fetching
from web_demo.app import Pages
from web_demo.backend import SearchBackend
from web_demo.benchmark_queries import BenchmarkQueries, BenchmarkQuery
from web_demo.delivery import CONTENT_SECURITY_POLICY, PathPrefix, static_versions
from web_demo.media import Thumbnails, Uploads
from web_demo.settings import DemoSettings
from web_demo.web_images import WebImages

HOSTILE = "<script>alert(1)</script>\"'&‮ 👗" + "x" * 500


class Search:
    """Answers like the service; keeps what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[dict[str, Any]] = []
        self.counted: list[tuple[list[str], Filter | None]] = []
        self.error: CirError | None = None
        self.published = True
        self.catalog_calls = 0
        self.schema = {"colour": "keyword"}
        self.written: dict[str, str] = {}
        self.payload: dict[str, Any] = {"colour": "red", "caption": HOSTILE}
        self.turn = TurnExplanation("composed", contribution=Contribution(0.1, 0.3, 0.25, False))
        self.reference: Item | None = None
        self.why: ResultExplanation | None = None
        self.named = "sum"
        self.deep = 0
        self.nothing = False
        self.payloads: dict[str, dict[str, Any]] = {}
        self.model: ModelInfo | None = None
        self.own: dict[str, str] = {}
        self.others: dict[str, tuple[int, int]] = {}
        self.folders: tuple[str, ...] = (str(folder),)

    async def catalogs(self) -> list[Catalog]:
        if self.error:
            raise self.error
        version = Version("v1", "published", 40, datetime.now(UTC), "f" * 8, 4, self.schema, {}, self.folders)
        self.catalog_calls += 1
        if not self.published:
            return [Catalog("empty", None)]
        others = [
            Catalog(
                name, replace(version, created=version.created + timedelta(hours=hours), item_count=items)
            )
            for name, (hours, items) in self.others.items()
        ]
        return [Catalog("shop", version), Catalog("empty", None), Catalog("other", version), *others]

    async def info(self) -> SearchInfo:
        weighted = ("sum", "slerp")
        return SearchInfo({}, self.model, ("image", *weighted), "sum", {}, {}, "1", weighted, self.own)

    async def facets(
        self, catalog: str, fields: list[str], *, limit: int = 0, where: Filter | None = None
    ) -> dict[str, list[FacetCount]]:
        self.counted.append((fields, where))
        return {name: [FacetCount("red", 3 if where else 30), FacetCount("blue", 10)] for name in fields}

    async def item(self, catalog: str, item_id: str) -> Item:
        if item_id == "missing":
            raise NotFound("no such item")
        image = self.written.get(item_id, str(self.folder / f"{item_id}.png"))
        return Item(item_id, self.payloads.get(item_id, self.payload), image, None)

    async def items(self, catalog: str, ids: list[str]) -> Items:
        if self.others.get(catalog, (0, 1))[1] == 0:
            return Items((), tuple(ids))
        there = [
            name for name in ids if "." not in name and "/" not in name and name not in ("missing", "gone")
        ]
        return Items(tuple([await self.item(catalog, name) for name in there]), ())

    async def search(self, catalog: str, **options: Any) -> SearchAnswer:
        self.asked.append({"catalog": catalog, **options})
        if self.error:
            raise self.error
        first = 1 if not options.get("page_token") else 4
        if self.nothing:
            return SearchAnswer(
                (), "", Explanation((self.turn,), "sum", "v1", "f", True), Timings(*[None] * 6)
            )
        if self.deep and options.get("turns"):
            size = options["page_size"]
            first = int(options.get("page_token") or 1) if size > 3 else first
            results = tuple(
                Result(
                    f"i{rank - self.deep}", 1 / rank, rank, {}, str(self.folder / f"i{rank - self.deep}.png")
                )
                for rank in range(first, first + size)
            )
            explained = Explanation((self.turn,), "sum", "v1", "f", True)
            return SearchAnswer(results, str(first + size), explained, Timings(*[None] * 6))
        results = tuple(
            Result(
                f"i{rank}",
                1 / rank,
                rank,
                self.payloads.get(f"i{rank}", self.payload),
                self.written.get(f"i{rank}", str(self.folder / f"i{rank}.png")),
                None,
                self.why,
            )
            for rank in range(first, first + 3)
        )
        explained = Explanation(
            tuple(self.turn for _ in options.get("turns", ())),
            options.get("combiner") or self.named,
            "v1",
            "f",
            True,
            reference=self.reference,
        )
        return SearchAnswer(results, "next" if first == 1 else "", explained, Timings(*[None] * 6))


@pytest.fixture
def search(tmp_path: Path) -> Search:
    Image.new("RGB", (30, 40), "red").save(tmp_path / "i1.png")
    return Search(tmp_path)


@pytest.fixture
def client(search: Search, tmp_path: Path) -> Iterator[TestClient]:
    settings = DemoSettings(max_upload_bytes=50_000, uploads_per_minute=6, data=tmp_path / "web")
    with demo(settings, search, tmp_path) as client:
        yield client


def demo(settings: DemoSettings, search: Search, tmp_path: Path) -> TestClient:
    uploads = Uploads(
        tmp_path / "up", max_pixels=10**6, max_files=9, max_total_bytes=10**6, lifetime_seconds=60
    )
    thumbnails = Thumbnails(tmp_path / "th", max_bytes=10**6, max_pixels=10**6, max_files=9)
    reference = str(tmp_path / "i9.png")
    group = tuple(str(tmp_path / f"{name}.png") for name in ("i9", "i2", "gone"))
    asked = BenchmarkQuery("in red", frozenset({group[1]}), group)
    others = [
        (
            str(tmp_path / f"{name}.png"),
            BenchmarkQuery(text, frozenset({str(tmp_path / "i5.png")} if text == "far" else ()), ()),
        )
        for name, text in (("i9", "longer"), ("gone", "in blue"), ("i9", "shorter"), ("i9", "far"))
    ]
    known = BenchmarkQueries([others[0], (reference, asked), *others[1:]])
    backend = SearchBackend(search, uploads, known, page_size=3, first_catalog=settings.catalog)  # type: ignore[arg-type]  # the methods that it uses
    images = WebImages(settings.fetching, max_bytes=10**6, at_once=settings.fetches)
    pages = Pages(settings, backend, uploads, thumbnails, images)
    return TestClient(pages.application(), follow_redirects=False)


def no_web_images() -> WebImages:
    return WebImages(Fetching(), max_bytes=1, at_once=1)


def shipped_model() -> ModelInfo:
    return ModelInfo("f" * 8, "cir-small", "shipped", 4, 64, "target_pad", 1.25, "cpu", "float32", 1.0)


def only(field: str, *values: str) -> Filter:
    return Filter(must=[MatchAny(field, list(values))])


def press(client: TestClient, page: str, name: str, value: str, **fields: str) -> str:
    """Press a button that the page has; the address that it leads to."""
    assert re.search(rf'name="{name}"\s+value="{re.escape(value)}"', page), (name, value)
    carried = re.search(r'name="q" value="([^"]*)"', page)
    assert carried
    answer = client.post("/go", data={"q": unescape(carried[1]), name: unescape(value), **fields})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"].removeprefix(".")


def file(content: bytes) -> dict[str, Any]:
    return {"picture": ("a.png", content, "image/png")}


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (20, 20), "blue").save(out, "PNG")
    return out.getvalue()


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
    with demo(DemoSettings(catalog=set_, data=tmp_path / "web"), search, tmp_path) as client:
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
        client.get(f"/?c={catalog}&x0=hat&w0=30")
        assert search.asked[-1]["turns"][0].text_weight == weight
        client.get(f"/?c={catalog}&x0=hat&w0=30&m=slerp")
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


def test_words_that_were_not_read_are_told(client: TestClient, search: Search) -> None:
    page = client.get("/?c=shop&i0=i1&x0=red").text
    assert "tokens" not in page
    search.turn = TurnExplanation("composed", None, 120, 77)
    page = client.get("/?c=shop&i0=i1&x0=red").text
    assert "the model read 77 of 120 tokens" in page


def test_what_moved_the_answer_is_told_and_when_the_words_did_little(
    client: TestClient, search: Search
) -> None:
    url = "/?c=shop&i0=i1&x0=red"
    page = client.get(url).text
    assert "<b>75 %</b> the picture, <b>25 %</b> your words" in page
    assert '<meter min="0" max="100" value="25"' in page
    assert "changed little" not in page
    search.turn = TurnExplanation("composed", contribution=Contribution(0.01, 0.4, 0.024, True))
    assert "These words changed little" in client.get(url).text
    assert search.asked[-1]["explain_turns"]
    search.turn = TurnExplanation("text_only")
    assert "<meter" not in client.get("/?c=shop&x0=red").text


def test_the_slider_is_there_where_it_moves_something_and_begins_undecided(
    client: TestClient, search: Search
) -> None:
    page = client.get("/?c=shop&i0=i1&x0=red").text
    assert re.search(r'type="range" name="weight"[^>]* value="50"', page)
    assert "the method decides" in page
    assert "Let the model decide" not in page
    page = client.get("/?c=shop&i0=i1&x0=red&w0=80").text
    assert re.search(r'type="range" name="weight"[^>]* value="80"', page)
    assert "Let the model decide" in page
    assert search.asked[-1]["turns"][0].text_weight == 0.8
    # Another method that takes none: neither a slider nor a refusal.
    page = client.get("/?c=shop&i0=i1&x0=red&w0=80&m=image").text
    assert 'type="range"' not in page
    assert search.asked[-1]["turns"][0].text_weight is None


def test_the_menu_of_methods_shows_the_one_that_is_used(client: TestClient, search: Search) -> None:
    search.turn = TurnExplanation("text_only")
    search.named = ""  # words alone reach no combiner
    for path, method in (("/?c=shop&x0=red", "sum"), ("/?c=shop&x0=red&m=slerp", "slerp")):
        page = client.get(path).text
        menu = page[page.index('<select name="combiner">') :]
        assert re.findall(r'value="(\w+)" selected', menu[: menu.index("</select>")]) == [method]


def test_what_changed_and_stayed_is_told_of_the_fields_that_people_filter_by(
    client: TestClient, search: Search
) -> None:
    search.reference = Item("i9", {"colour": "blue", "price": 3}, "", None)
    search.why = ResultExplanation(0.1, 0.2, ("colour", "price"), ())
    page = client.get("/?c=shop&i0=i9&x0=red").text
    assert page.count("blue → red") == 3
    assert "3 → " not in page
    assert client.get("/more?c=shop&i0=i9&x0=red&by=&token=next").text.count("blue → red") == 3
    search.why = ResultExplanation(0.1, 0.2, (), ("colour",))
    page = client.get("/?c=shop&i0=i9&x0=x").text
    assert page.count('<span class="sr">as before: </span>red') == 3
    search.reference = search.why = None
    assert 'class="diff"' not in client.get("/?c=shop&i0=i9&x0=red").text


def test_the_known_target_is_marked(client: TestClient, search: Search) -> None:
    page = client.get("/?c=shop&i0=i9").text
    assert 'value="in red"' in page
    page = client.get("/?c=shop&i0=i9&x0=in+red").text
    assert "The known answer is at rank 2." in page
    assert re.search(r'class="card target"\s+id="r2"', page)
    other = client.get("/?c=shop&i0=i9&x0=in+blue").text
    assert "known answer" not in other
    # The annotation's group as the answer ranks it, above the results, its target framed.
    assert page.index('<ul class="row">') < page.index('<ul class="grid"')
    row = page[page.index('<ul class="row">') : page.index('<ul class="grid"')]
    assert re.findall(r"picture\?c=shop&amp;i=(\w+)", row) == ["i1", "i2", "i3"]
    assert re.search(r'class="thumb target"[^>]*value="i2"', row)
    ranked = next(asked for asked in search.asked if asked["where"] == Filter(must=[HasId(["i2"])]))
    assert ranked["turns"][0].text == "in red"
    assert '<ul class="row">' not in other


def test_the_known_target_is_marked_however_deep_it_is(client: TestClient, search: Search) -> None:
    search.deep = 40
    page = client.get("/?c=shop&i0=i9&x0=in+red").text
    assert "The known answer is at rank 42." in page
    more = client.get("/more?c=shop&i0=i9&x0=in+red&token=next").text
    assert 'class="card target"' not in more
    search.deep = 0
    more = client.get("/more?c=shop&i0=i9&x0=far&token=next").text
    assert re.search(r'class="card target"\s+id="r5"', more)
    search.deep = 40
    asked = len(search.asked)
    client.get("/?c=shop&i0=i9&x0=in+red")
    assert [one["page_size"] for one in search.asked[asked:]].count(200) == 0  # the rank is kept
    search.deep = 5000
    assert "at rank 5002." in client.get("/?c=shop&i0=i9&x0=in+red&m=slerp").text
    search.deep = 10**6
    assert "not among the first 10000 results" in client.get("/?c=shop&i0=i9&x0=in+red&m=image").text


def test_the_wall_begins_with_what_benchmark_queries_start_from(client: TestClient) -> None:
    page = client.get("/").text
    assert re.findall(r'class="picture" form="state" name="from" value="(\w+)"', page) == ["i9", "i1", "i2"]
    first = re.search(r'<a href="([^"]*)">This catalog has queries', page)
    assert first
    assert unescape(first[1]) == "./?c=shop&i0=i9&x0=longer"
    assert "This catalog has queries" not in client.get("/?c=shop&s=2").text


def test_queries_with_known_answers_are_gone_through_one_by_one(client: TestClient) -> None:
    page = client.get("/?c=shop&i0=i9&x0=in+red&m=slerp&v=sum&h=en").text
    assert "Query 2 of 5" in page
    ways = dict(re.findall(r'<a class="button quiet" href="([^"]*)" rel="(prev|next)"', page))
    assert {rel: unescape(url) for url, rel in ways.items()} == {
        "prev": "./?c=shop&i0=i9&x0=longer&m=slerp&v=sum&h=en",
        # The catalog lacks the reference of the third one.
        "next": "./?c=shop&i0=i9&x0=shorter&m=slerp&v=sum&h=en",
    }
    last = client.get("/?c=shop&i0=i9&x0=far").text
    assert "Query 5 of 5" in last
    assert 'rel="next"' not in last
    assert 'rel="prev"' in last
    assert "Query " not in client.get("/?c=shop&i0=i9&x0=other").text


def test_recall_of_the_session_is_of_queries_as_their_manifest_has_them(client: TestClient) -> None:
    page = client.get("/?c=shop&i0=i9&x0=in+red&v=slerp").text
    assert 'data-query="i9 in red" data-catalog="shop"' in page
    assert re.findall(r'data-by="(\w+)" data-rank="(\d+)"', page) == [("sum", "2"), ("slerp", "2")]
    assert 'src="static/queries.js' in page
    for changed in ("f=colour%3Ared", "l0=i3", "d0=i3", "e=i3", "w0=80"):
        page = client.get(f"/?c=shop&i0=i9&x0=in+red&{changed}").text
        assert 'data-query=""' in page, changed
    assert "queries.js" not in client.get("/?c=shop&x0=hat").text


def test_a_new_branch_starts_from_an_earlier_turn(client: TestClient) -> None:
    page = client.get("/?c=shop&x0=a+dress&x1=in+blue").text
    branches = re.findall(r'href="([^"]*)" target="_blank"', page)
    assert branches == ["./?c=shop&amp;x0=a+dress"]


def test_what_a_catalog_says_is_shown_and_never_run(client: TestClient, search: Search) -> None:
    search.payload["<b>field</b>"] = "</dd><img src=x onerror=alert(1)>"
    for url in ("/", "/?c=shop&x0=" + urlencode({"": HOSTILE})[1:], "/item?c=shop&i=i1"):
        answer = client.get(url)
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        assert "<b>field" not in answer.text
        assert " onerror" not in answer.text.replace("&lt;img src=x onerror", "")


def test_every_answer_has_the_headers(client: TestClient) -> None:
    for url in ("/", "/nowhere", "/static/page.js", "/healthz", "/picture?c=shop&i=i1", "/?w0=x"):
        headers = client.get(url).headers
        assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "cache-control" in headers
    assert "unsafe" not in CONTENT_SECURITY_POLICY


def test_pages_have_no_inline_script_or_style(client: TestClient) -> None:
    for url in ("/", "/?c=shop&i0=a&x0=in+red&v=sum", "/about", "/item?c=shop&i=i1", "/nowhere"):
        page = client.get(url).text
        assert (
            re.findall(r"<script(?! type=\"module\" fetchpriority=\"low\" src=\"(?:\.\./)*static/)", page)
            == []
        )
        assert " style=" not in page
        assert "<style" not in page
        assert re.search(r"\son[a-z]+=", re.sub(r"alert.*?&gt;", "", page)) is None
        assert "http://" not in page.replace("http://www.w3.org", "")


def test_an_image_and_words_go_together(client: TestClient) -> None:
    answer = client.post("/go", files=file(png()), data={"q": "c=other&i0=i1&x0=in+red", "x": " longer "})
    assert answer.status_code == 303
    found = re.fullmatch(
        r"\./\?c=other&i0=i1&x0=in\+red&u1=([0-9a-f]{32})&x1=longer", answer.headers["location"]
    )
    assert found
    page = client.get(answer.headers["location"].removeprefix("."))
    assert page.status_code == 200
    # A turn with a reference begins anew: what came before is shown, and that it no longer counts.
    assert page.text.count("no longer counted") == 1
    shown = client.get(f"/uploaded?n={found[1]}")
    assert shown.headers["content-type"] == "image/jpeg"
    alone = client.post("/go", files=file(b""), data={"q": "c=other", "x": "a hat"})
    assert alone.headers["location"] == "./?c=other&x0=a+hat"
    assert client.get("/go").headers["location"] == "./"


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"<svg/>", 400, "not a picture"),
        (b"x" * 60_000, 413, "too large"),
        (b"x" * 200_000, 413, "too large"),
    ],
)
def test_uploads_that_cannot_be_taken_are_explained(
    client: TestClient, content: bytes, status: int, words: str
) -> None:
    answer = client.post("/go", files=file(content))
    assert answer.status_code == status
    assert words in answer.text
    sent = {"referer": "http://testserver/?c=other&x0=hat"}
    answer = client.post("/go", files=file(content), headers=sent)
    assert 'href="./?c=other&amp;x0=hat"' in answer.text  # back to where it was sent from


def test_uploads_come_from_our_own_pages_and_not_too_many(client: TestClient) -> None:
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        assert client.post("/go", files=file(png()), headers=headers).status_code == 403
    own = {"sec-fetch-site": "same-origin"}
    statuses = [client.post("/go", files=file(png()), headers=own).status_code for _ in range(8)]
    assert statuses == [303] * 6 + [429] * 2


@pytest.mark.parametrize(
    ("origin", "taken"),
    [
        ("http://shop.example", True),
        ("http://SHOP.example", True),
        ("https://shop.example:8443", True),
        ("http://testserver", True),
        ("https://shop.example", False),
        ("http://shop.example.evil", False),
        ("null", False),
    ],
)
def test_a_proxy_may_change_the_host(tmp_path: Path, search: Search, origin: str, taken: bool) -> None:
    settings = DemoSettings(
        data=tmp_path / "web", origins=["http://Shop.example/", "https://shop.example:8443"]
    )
    with demo(settings, search, tmp_path) as client:
        answer = client.post("/go", files=file(png()), headers={"origin": origin})
    assert answer.status_code == (303 if taken else 403)


@pytest.mark.parametrize(
    "origin", ["shop.example", "ftp://shop.example", "http://", "http://a/b", "http://a:x"]
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(StartupError, match=r"^setting origins"):
        DemoSettings.load(["--origins", json.dumps([origin])])


@pytest.mark.parametrize(
    ("url", "status", "words"),
    [
        ("/?c=nothing", 404, "no such page or item"),
        ("/?w0=900", 400, "not a number from 0 to 100"),
        ("/item?c=shop&i=missing", 404, "no such page or item"),
        ("/picture?c=shop&i=missing", 404, "no such page or item"),
        ("/uploaded?n=../../x", 404, "no such page or item"),
        ("/nowhere", 404, "no such page or item"),
    ],
)
def test_what_is_not_there_is_said_in_words(client: TestClient, url: str, status: int, words: str) -> None:
    answer = client.get(url)
    assert answer.status_code == status
    assert words in answer.text


@pytest.mark.parametrize("item_id", ["i2", "<b>&\x01\ufffe" + "x" * 60])
def test_an_item_without_a_picture_has_a_tile_with_its_id(client: TestClient, item_id: str) -> None:
    answer = client.get("/picture", params={"c": "shop", "i": item_id, "size": "large"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "image/svg+xml")
    label = ElementTree.fromstring(answer.text).findtext("{*}text") or ""  # our own
    assert label == (item_id if item_id == "i2" else "<b>&  " + "x" * 17 + "…")


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (Unavailable("away", code=grpc.StatusCode.UNAVAILABLE), 503, "tries again by itself"),
        (FailedPrecondition("model x, not y", reason="MODEL_MISMATCH"), 409, "another model"),
        (InvalidArgument("too many turns", reason="FIELD_INVALID"), 400, "too many turns"),
    ],
)
def test_failures_of_the_search_service_are_explained(
    client: TestClient, search: Search, error: CirError, status: int, words: str
) -> None:
    search.error = error
    answer = client.get("/?c=shop&x0=a", headers={"accept-language": "en"})
    assert answer.status_code == status
    assert words in answer.text
    assert ("data-retry" in answer.text) == (status == 503)
    assert ("unavailable" in answer.text) == (status == 503)
    assert client.get("/healthz").json() == {"status": "ok"}
    search.error = None
    assert client.get("/?c=shop&x0=a").status_code == 200


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


def test_pages_are_compressed_and_static_files_kept(client: TestClient) -> None:
    for turns in (1, 16):
        query = urlencode([("c", "shop"), *((f"x{number}", "w" * 120) for number in range(turns))])
        with client.stream("GET", f"/?{query}") as answer:
            sent = b"".join(answer.iter_raw())
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["cache-control"] == "private, no-cache"
        assert len(sent) < 12_000
    files = set(re.findall(r'(?:src|href)="(static/[^"]+)"', client.get("/").text))
    assert len(files) == len(static_versions()) - 1  # queries.js is for queries with known answers
    for name in files:
        assert client.get(f"/{name}").headers["cache-control"] == "public, max-age=31536000, immutable"
        assert client.get(f"/{name}0").headers["cache-control"] == "private, no-cache"
        assert client.get(f"/{name.partition('?')[0]}").headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("prefix", ["", "/try/cir"])
def test_pages_may_lie_below_a_path(client: TestClient, prefix: str) -> None:
    below = TestClient(PathPrefix(client.app, "/try/cir"), follow_redirects=False)
    assert below.get(f"{prefix}/?c=shop&x0=hat").status_code == 200
    for path in ("/", "/?c=shop&x0=hat", "/item?c=shop&i=i1", "/about", "/a/b/c", "/nowhere"):
        page = below.get(prefix + path).text
        assert re.findall(r'(?:src|href|action|data-more)="/[^"]*"', page) == []
        for address in re.findall(r'(?:src|href)="((?:\.\./)*static[^"]*)"', page):
            place = urljoin(f"http://testserver{prefix}{path}", address)
            assert place.startswith(f"http://testserver{prefix}/static/")
            assert below.get(place).status_code == 200


@pytest.mark.parametrize("path", ["try", "//try", "/try?x", "/#"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(StartupError, match=r"^setting root_path"):
        DemoSettings.load(["--root-path", path])


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


async def send_upload(
    application: ASGIApp, pieces: AsyncIterator[bytes], length: int, host: str
) -> tuple[int, dict[str, str]]:
    """Send an upload piece by piece, as a slow visitor does; status and headers of the answer."""
    answer: list[Message] = []

    async def receive() -> Message:
        piece = await anext(pieces, b"")
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    async def send(message: Message) -> None:
        answer.append(message)

    kind = b"multipart/form-data; boundary=b"
    await application(
        {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/go",
            "query_string": b"",
            "headers": [(b"content-type", kind), (b"content-length", str(length).encode())],
            "client": (host, 1),
        },
        receive,
        send,
    )
    return answer[0]["status"], {name.decode(): value.decode() for name, value in answer[0]["headers"]}


BODY = (
    b'--b\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n'
    + png()
    + b"\r\n--b--\r\n"
)


async def test_uploads_are_bounded_over_all_visitors(tmp_path: Path, search: Search) -> None:
    settings = DemoSettings(
        uploads_at_once=2, upload_seconds=30, uploads_per_minute=60, data=tmp_path / "web"
    )
    uploads = Uploads(
        tmp_path / "up", max_pixels=10**6, max_files=9, max_total_bytes=2000, lifetime_seconds=60
    )
    thumbnails = Thumbnails(tmp_path / "th", max_bytes=10**6, max_pixels=10**6, max_files=9)
    backend = SearchBackend(search, uploads, BenchmarkQueries(), page_size=3)  # type: ignore[arg-type]
    application = Pages(settings, backend, uploads, thumbnails, no_web_images()).application()
    held, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def slow() -> AsyncIterator[bytes]:
        yield BODY[:50]
        begun.release()
        await held.wait()
        yield BODY[50:]

    async def whole() -> AsyncIterator[bytes]:
        yield BODY

    waiting = [
        asyncio.create_task(send_upload(application, slow(), len(BODY), f"10.0.0.{number}"))
        for number in range(2)
    ]
    await asyncio.wait_for(begun.acquire(), 30)
    await asyncio.wait_for(begun.acquire(), 30)
    status, _ = await send_upload(application, whole(), len(BODY), "10.0.0.9")
    assert status == 503
    held.set()
    assert [status for status, _ in await asyncio.gather(*waiting)] == [303, 303]
    names = []
    for number in range(8):
        status, headers = await send_upload(application, whole(), len(BODY), f"10.0.1.{number}")
        assert status == 303
        names.append(headers["location"].rpartition("u0=")[2])
        os.utime(tmp_path / "up" / f"{names[-1]}.jpg", (number, number))
    kept = sorted((tmp_path / "up").iterdir())
    assert sum(path.stat().st_size for path in kept) <= 2000
    assert f"{names[-1]}.jpg" in [path.name for path in kept]
    assert f"{names[0]}.jpg" not in [path.name for path in kept]


async def test_an_upload_that_never_ends_is_given_up(tmp_path: Path, search: Search) -> None:
    settings = DemoSettings(upload_seconds=0.05, data=tmp_path / "web")
    uploads = Uploads(tmp_path / "up", max_pixels=10, max_files=9, max_total_bytes=10**6, lifetime_seconds=60)
    thumbnails = Thumbnails(tmp_path / "th", max_bytes=10**6, max_pixels=10**6, max_files=9)
    backend = SearchBackend(search, uploads, BenchmarkQueries(), page_size=3)  # type: ignore[arg-type]
    application = Pages(settings, backend, uploads, thumbnails, no_web_images()).application()

    async def endless() -> AsyncIterator[bytes]:
        yield BODY[:50]
        await asyncio.Event().wait()

    status, _ = await send_upload(application, endless(), len(BODY), "10.0.0.1")
    assert status == 408


def test_an_upload_that_cannot_be_kept_is_said(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Uploads, content: bytes) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Uploads, "store", full)
    answer = client.post("/go", files=file(png()))
    assert answer.status_code == 507
    assert "no room" in answer.text
