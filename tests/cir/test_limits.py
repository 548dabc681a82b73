"""Rules of ids and field names that every door shares."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.limits import (
    MAX_FIELD_NAME_CHARACTERS,
    MAX_ITEM_ID_BYTES,
    MAX_LOCATION_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_PAYLOAD_VALUES,
    field_name_problem,
    is_text,
    item_id_problem,
    location_problem,
    payload_problem,
)


@given(st.text(st.characters(), max_size=40))
def test_the_rule_is_what_it_says(text: str) -> None:
    encodable = not any(unicodedata.category(character) == "Cs" for character in text)
    control = any(unicodedata.category(character) == "Cc" for character in text)
    assert is_text(text) == encodable
    assert (item_id_problem(text) == "") == (encodable and not control and text != "")
    assert (field_name_problem(text) == "") == (encodable and not control and text != "")


@pytest.mark.parametrize("text", ["羽绒　红.jpg", "a b", "x​y", "soft­hyphen", "👨‍👩‍👧", 'Size "EU"', "a/b c"])
def test_spaces_signs_and_invisible_characters_are_allowed(text: str) -> None:
    assert item_id_problem(text) == ""
    assert field_name_problem(text) == ""


def test_lengths() -> None:
    assert item_id_problem("é" * (MAX_ITEM_ID_BYTES // 2)) == ""
    assert (
        item_id_problem("é" * (MAX_ITEM_ID_BYTES // 2) + "a")
        == "an item id has 1 to 2048 bytes, this one has 2049"
    )
    assert field_name_problem("é" * MAX_FIELD_NAME_CHARACTERS) == ""
    assert "129" in field_name_problem("é" * (MAX_FIELD_NAME_CHARACTERS + 1))
    assert item_id_problem("") == "an item id has 1 to 2048 bytes, this one has 0"


@pytest.mark.parametrize("text", ["a\nb", "\x00", "\x7f", "\x85", "tab\t"])
def test_control_characters_are_refused(text: str) -> None:
    assert item_id_problem(text) == "an item id has no control characters"
    assert field_name_problem(text) == "a field name has no control characters"


def test_lone_surrogates_are_refused() -> None:
    assert item_id_problem("a\udce9") == "an item id must be valid Unicode"
    assert field_name_problem("\ud800") == "a field name must be valid Unicode"


def test_a_location_is_any_text_up_to_its_bytes() -> None:
    assert location_problem("") == location_problem("a\nb") == ""
    assert location_problem("é" * (MAX_LOCATION_BYTES // 2)) == ""
    assert "4098" in location_problem("é" * (MAX_LOCATION_BYTES // 2 + 1))
    assert location_problem("caf\udce9.jpg") == "an image location must be valid Unicode"


def test_a_payload_is_as_large_as_its_json() -> None:
    frame = len('{"a": ""}')
    assert payload_problem({"a": "x" * (MAX_PAYLOAD_BYTES - frame)}) == ""
    assert "bytes as JSON" in payload_problem({"a": "é" * (MAX_PAYLOAD_BYTES // 2)})
    assert payload_problem({"a": list(range(MAX_PAYLOAD_VALUES - 1))}) == ""
    assert "10001 fields" in payload_problem({"a": list(range(MAX_PAYLOAD_VALUES))})
