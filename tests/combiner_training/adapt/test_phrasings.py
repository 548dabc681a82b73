"""Texts of changes: built-in phrasings, one's own, and files of them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from combiner_training.adapt.columns import AdaptError, Attribute, ColumnWords
from combiner_training.adapt.phrasings import (
    SPLITS,
    Change,
    Language,
    Phrasings,
    SplitName,
    choose_language,
    read_phrasings,
    with_article,
)

WORDS = st.text("abcdefghij {}红蓝", min_size=1, max_size=12).map(
    lambda text: text.replace("{", "").replace("}", "") or "x"
)


@given(
    WORDS,
    st.one_of(st.just(""), WORDS),
    st.sampled_from(SPLITS),
    st.sampled_from(list(Language)),
    st.integers(),
)
def test_every_text_says_the_new_value(
    new: str, old: str, split: SplitName, language: Language, seed: int
) -> None:
    said = Phrasings(language).phrase([Change("kind", "kind", old, new)], split, random.Random(seed))

    assert new in said
    assert "{" not in said


def test_no_phrasing_of_the_test_is_one_of_the_training() -> None:
    for language in (Language.ENGLISH, Language.CHINESE):
        texts: dict[SplitName, set[str]] = {}
        for split in SPLITS:
            said, rng = Phrasings(language), random.Random(0)
            texts[split] = {
                said.phrase([Change("colour", "colour", "red", "blue")], split, rng) for _ in range(500)
            }
        assert not texts["train"] & texts["test"]
        assert not texts["train"] & texts["val"]
        assert not texts["val"] & texts["test"]


def test_two_changes_are_one_text_in_any_order() -> None:
    changes = [Change("kind", "kind", "hat", "dress"), Change("colour", "colour", "red", "blue")]
    said, rng = Phrasings(Language.ENGLISH), random.Random(0)
    texts = {said.phrase(changes, "train", rng) for _ in range(300)}

    assert all("dress" in text and "blue" in text for text in texts)
    assert any("a blue dress" in text for text in texts)


def test_articles() -> None:
    assert [with_article(word) for word in ("dress", "orange hat", "trousers", "")] == [
        "a dress",
        "an orange hat",
        "trousers",
        "",
    ]


def test_the_language_follows_from_the_values() -> None:
    def of(*values: str) -> Language:
        attribute = Attribute("x", "x", values, np.zeros(1, np.int32))
        return choose_language(Language.AUTO, [attribute], ())

    assert of("红色", "蓝色", "red") is Language.CHINESE
    assert of("red", "blue", "红色") is Language.ENGLISH
    assert choose_language(Language.AUTO, (), ["黑色连衣裙"]) is Language.CHINESE
    assert choose_language(Language.ENGLISH, (), ["黑色连衣裙"]) is Language.ENGLISH


def written(folder: Path, document: Any) -> Path:
    path = folder / "phrasings.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_a_file_gives_phrasings_and_words(tmp_path: Path) -> None:
    own = [f"{number}: {{new}}" for number in range(6)]
    file = read_phrasings(
        written(
            tmp_path,
            {
                "phrasings": own,
                "built_in": False,
                "columns": {
                    "farbe": {"word": "colour", "values": {"BLK": "black"}, "phrasings": ["in {new}"]}
                },
            },
        )
    )
    said = Phrasings(Language.ENGLISH, own=file.phrasings, built_in=file.built_in)

    assert file.columns["farbe"] == ColumnWords("colour", {"BLK": "black"}, ("in {new}",))
    assert said.phrase([Change("x", "x", "", "red")], "test", random.Random(0)) == "5: red"
    assert said.phrase([Change("x", "x", "", "red")], "val", random.Random(0)) == "4: red"
    assert said.count("train") == 4


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "is a list; expected an object"),
        ({"phrases": []}, "has a member 'phrases'; expected phrasings, columns, built_in"),
        ({"phrasings": ["make it so"]}, r"'make it so' needs \{new\} or \{a_new\}"),
        ({"phrasings": ["{new} {price}"]}, r"'\{new\} \{price\}' needs"),
        ({"phrasings": ["{new!r}"]}, "needs"),
        ({"phrasings": ["{new"]}, "braces stand around placeholders alone"),
        ({"phrasings": ["{new}" + "x" * 300]}, "expected a text of 200 characters at most"),
        ({"phrasings": "in {new}"}, "is no list"),
        ({"built_in": False}, "turns the built-in ones off"),
        ({"built_in": 1}, "built_in is 1; expected true or false"),
        ({"columns": {"colour": {"values": {"a": 1}}}}, "columns, 'colour', values, 'a' holds '1'"),
    ],
)
def test_a_file_that_cannot_be_used_names_the_member(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        read_phrasings(written(tmp_path, document))


def test_a_file_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "phrasings.json").write_bytes(b"\xff{")
    with pytest.raises(AdaptError, match="is not JSON in UTF-8"):
        read_phrasings(tmp_path / "phrasings.json")
    with pytest.raises(AdaptError, match="cannot be read"):
        read_phrasings(tmp_path / "none.json")
