"""What a page tells of an answer: what moved it, what changed, and where the known answer stands."""

from __future__ import annotations

import re
from html import unescape

from starlette.testclient import TestClient

from cir.filters import Filter, HasId
from cir.models import (
    Contribution,
    Item,
    ResultExplanation,
    TurnExplanation,
)
from tests.web_demo.in_memory import (
    Search,
)


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
    # Words alone are not weighed against anything.
    client.get("/?c=shop&x0=red&w0=80")
    assert search.asked[-1]["turns"][0].text_weight is None
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
