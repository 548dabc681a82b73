"""Templates of sentences with an image in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.prompts import MAX_TEMPLATE_CHARACTERS, Slot, TemplateError, parse_template

plain = st.text(max_size=20).filter(lambda text: "{" not in text and "}" not in text)


@given(plain, plain, plain, st.permutations(list(Slot)))
def test_a_template_is_its_parts_in_their_order(a: str, b: str, c: str, slots: list[Slot]) -> None:
    text = f"{a}{slots[0]}{b}{slots[1]}{c}"
    parts = parse_template(text).parts
    assert "".join(parts) == text
    assert [part for part in parts if isinstance(part, Slot)] == slots
    assert all(parts)


@pytest.mark.parametrize(
    "text",
    ["", "{text}", "a photo of {image}", "{image} {image} {text}", "$ {text}", "{ image } {text}"],
)
def test_a_slot_that_is_missing_or_twice_there_is_named(text: str) -> None:
    with pytest.raises(TemplateError, match=r"expected once"):
        parse_template(text)


def test_a_long_template_is_refused() -> None:
    with pytest.raises(TemplateError, match=str(MAX_TEMPLATE_CHARACTERS)):
        parse_template("{image} {text}" + "x" * MAX_TEMPLATE_CHARACTERS)
