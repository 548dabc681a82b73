"""Texts, suggestions, benchmark queries, and what is asked of the search service."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import web_demo
from cir.filters import Filter, MatchAny
from cir.models import Explanation, FacetCount, Item, Result, SearchAnswer, Timings
from service_runtime.errors import StartupError
from web_demo.backend import UploadGoneError, to_turns
from web_demo.benchmark_queries import BenchmarkQueries, candidate_ids
from web_demo.examples import find_examples
from web_demo.filters import choose_facet_fields, reads_as_words, to_where
from web_demo.i18n import LOCALES, choose_texts
from web_demo.state import State, TurnState
from web_demo.wording import is_beyond_latin, item_title, suggest_changes

WEB_DEMO = Path(web_demo.__file__).parent


def test_every_language_has_every_text() -> None:
    english = LOCALES["en"]
    assert LOCALES.keys() == {"en", "zh", "zh-Hant"}
    for language, texts in LOCALES.items():
        assert texts["lang"] == language
        assert texts.keys() == english.keys()
        assert all(texts.values())
        assert "{rank}" in texts["target_seen"]


def test_every_text_is_shown_somewhere() -> None:
    templates = "".join(path.read_text() for path in (WEB_DEMO / "templates").iterdir())
    used = set(re.findall(r"\bt\.(\w+)", templates)) | set(re.findall(r'\bt\["(\w+)"\]', templates))
    reasons = "".join(path.read_text() for path in WEB_DEMO.glob("*.py"))
    assert used <= LOCALES["en"].keys()
    assert {name for name in LOCALES["en"].keys() - used if f'"{name}"' not in reasons} == set()


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("de-DE,zh;q=0.3,en;q=0.7", "en"),
        ("fr", "en"),
        ("zh;q=0", "en"),
        ("en;q=0.1,zh;q=x", "en"),
    ],
)
def test_the_browser_chooses_the_language(header: str, language: str) -> None:
    assert choose_texts(header)["lang"] == language


@given(st.text(max_size=60))
def test_any_header_has_texts(header: str) -> None:
    assert choose_texts(header)["title"]


def test_suggestions_are_values_that_the_item_does_not_have() -> None:
    schema = {"kind": "keyword", "price": "float", "colour": "keyword", "caption": "keyword", "sale": "bool"}
    assert choose_facet_fields(schema) == ["colour", "kind", "sale"]
    facets = {"colour": ["red", "blue"], "kind": ["hat", "apron"]}
    texts = suggest_changes(facets, {"colour": "red", "kind": "hat"}, seed=3)
    assert sorted(texts) == ["an apron instead", "in blue"]
    words = {"kind": ["shoes", "Shorts", "dress"]}
    assert sorted(suggest_changes(words, {"kind": "shoes"}, seed=3)) == ["Shorts instead", "a dress instead"]
    assert suggest_changes(facets, {}, seed=3) == suggest_changes(facets, {}, seed=3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["red", "dark blue", "rosé"], True),
        (["红色", "蓝色"], True),
        (["True", "False"], True),  # words of a keyword field; fields of truth values have no texts
        ([True, False], False),
        (["IMG_1002.JPG", "IMG_1003.JPG"], False),
        (["a.jpg", "b.jpg"], False),
        (["3f2504e0-4f89", "9a7b330a-a736"], False),
        (["SKU10023", "SKU10024"], False),
        (["12", "13"], False),
        (["https://a.example/b", "https://a.example/c"], False),
        (
            ["a sentence that nobody would say to a search", "another one of the very same kind of length"],
            False,
        ),
        (["red"], False),
        ([], False),
    ],
)
def test_suggestions_come_from_what_reads_as_words(values: list[str | bool], words: bool) -> None:
    assert reads_as_words([FacetCount(value, 5) for value in values], 1000) is words


def test_a_value_that_each_item_has_for_itself_is_no_word_of_a_shop() -> None:
    names = [FacetCount(name, 1) for name in ("anna", "berta", "carla")]
    assert not reads_as_words(names, 1000)


@pytest.mark.parametrize(
    ("payload", "image", "title"),
    [
        ({"Title": "Summer dress", "colour": "red"}, "/a/b.jpg", "Summer dress"),
        ({"name": " ", "product_name": "Hat"}, "/a/b.jpg", "Hat"),
        ({"colour": "red"}, "/photos/red_summer-dress.jpg", "red summer dress"),
        ({"label": "Shoes", "kids": False}, "/p/3f2504e0-4f89-41d3-9a0c-0305e82c3301.jpg", "Shoes"),
        ({"label": "Shoes", "sku": "X1002"}, "/p/IMG_1002.JPG", "Shoes"),
        ({}, "/p/IMG_1002.JPG", "an-id"),
        ({}, "", "an-id"),
    ],
)
def test_an_item_is_called_what_somebody_wrote(payload: dict[str, Any], image: str, title: str) -> None:
    assert item_title(Item("an-id", payload, image, None)) == title


async def test_examples_say_different_things_where_there_are_enough() -> None:
    wall = [Item(f"{number}", {"kind": "hat"}, "", None) for number in range(5)]

    async def search(state: State, combiner: str) -> SearchAnswer:
        wanted = state.last.text.removeprefix("a ").removesuffix(" instead")
        result = Result(f"found {wanted}", 1.0, 1, {"kind": wanted}, "", None, None)
        explained = Explanation((), "sum", "v1", "f", True)
        return SearchAnswer((result,), "", explained, Timings(*[None] * 6))

    words = {"kind": ["hat", "coat", "coat", "bag", "dress", "coat"]}
    found = await find_examples("shop", wall, words, search)
    assert [example.text for example in found] == ["a coat instead", "a bag instead", "a dress instead"]


@pytest.mark.parametrize(
    ("text", "beyond"),
    [("a red dress", False), ("crème № 5", False), ("红色", True), ("красный", True)],
)
def test_words_of_other_scripts_are_told(text: str, beyond: bool) -> None:
    assert is_beyond_latin(text) is beyond


def test_benchmark_queries_are_found_by_their_image(tmp_path: Path) -> None:
    rows = [
        {"image": "images/a.jpg", "split": "test"},
        {
            "id": "1",
            "reference": "images/a.jpg",
            "text": "in red",
            "targets": ["images/b.jpg"],
            "group": ["images/c.jpg"],
        },
        {"id": "2", "reference": "images/a.jpg", "texts": ["is blue", "is long"], "target": "images/c.jpg"},
    ]
    manifest = tmp_path / "triplets.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    known = BenchmarkQueries.read([manifest])
    reference = str(tmp_path / "images/a.jpg")
    assert [query.text for query in known.of(reference)] == ["in red", "is blue and is long"]
    asked = known.find(reference, "in red")
    assert asked is not None
    assert asked.targets == {str(tmp_path / "images/b.jpg")}
    assert known.find(reference, "in green") is None
    assert known.of("elsewhere") == ()
    splits = [
        {"reference": f"images/{name}.jpg", "text": name, "target": "images/b.jpg", "split": name}
        for name in ("train", "val", "test")
    ]
    for kept, left in ((splits, ["val", "test"]), (splits[:1], ["train"])):
        manifest.write_text("".join(json.dumps(row) + "\n" for row in kept))
        assert [Path(path).stem for path in BenchmarkQueries.read([manifest]).references] == left
    manifest.write_text("no json\n")
    with pytest.raises(StartupError, match=r"triplets\.jsonl cannot be read"):
        BenchmarkQueries.read([manifest])


def test_an_item_is_looked_for_under_every_form_of_its_images_path() -> None:
    assert candidate_ids("/srv/dev/a.b.png") == [
        *("a.b.png", "a.b", "dev/a.b.png", "dev/a.b", "srv/dev/a.b.png", "srv/dev/a.b")
    ]
    assert "images/c" in candidate_ids("images/c")


def test_turns_and_filters_are_what_was_said() -> None:
    state = State(
        "shop",
        (TurnState(item="a", text="in red", liked=("b",), weight=40), TurnState(upload="0" * 32)),
        filters=(("kind", "hat"), ("kind", "bag"), ("sale", "true"), ("gone", "x")),
    )
    first, second = to_turns(state, lambda name: name.encode())
    assert (first.item, first.text, tuple(first.liked), first.text_weight) == ("a", "in red", ("b",), 0.4)
    assert second.image == b"0" * 32
    schema = {"kind": "keyword", "sale": "bool"}
    assert to_where(state.filters, schema) == Filter(
        must=[MatchAny("kind", ["hat", "bag"]), MatchAny("sale", [True])]
    )
    assert to_where((), schema) is None
    numbers = [("n", "12"), ("n", "-3"), ("n", "x"), ("n", "9" * 19), ("sale", "yes"), ("price", "1")]
    kinds = {"n": "integer", "price": "float", **schema}
    assert to_where(numbers, kinds) == Filter(must=[MatchAny("n", [12, -3])])
    with pytest.raises(UploadGoneError):
        to_turns(state, lambda name: None)
