import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from combiner_training.captions import Joining, joined, training_texts

FASHIONIQ = Path(__file__).resolve().parents[3] / "shared" / "data" / "fashioniq" / "captions"


def by_the_facts(first: str, second: str) -> list[str]:
    """The four texts, written from the description alone: strip, capitalise what comes first, join."""

    def strip(text: str) -> str:
        while text and text[0] in ".?, ":
            text = text[1:]
        while text and text[-1] in ".?, ":
            text = text[:-1]
        return text

    def capital(text: str) -> str:
        return text[:1].title() + text[1:].lower() if text.isascii() else text.capitalize()

    one, two = strip(first), strip(second)
    return [f"{capital(one)} and {two}", f"{capital(two)} and {one}", capital(one), capital(two)]


@given(st.text("aB .?,Q1é", max_size=8), st.text("aB .?,Q1é", max_size=8))
def test_the_four_texts_are_those_of_the_method(first: str, second: str) -> None:
    assert list(training_texts((first, second))) == by_the_facts(first, second)
    assert joined((first, second)) == by_the_facts(first, second)[0]


def test_an_example_in_full() -> None:
    captions = ("Is SHINY and silver.", " with Shorter sleeves?")
    assert joined(captions) == "Is shiny and silver and with Shorter sleeves"
    assert joined(captions, Joining.REVERSED) == "With shorter sleeves and Is SHINY and silver"
    assert joined(captions, Joining.FIRST) == "Is shiny and silver"
    assert joined(captions, Joining.SECOND) == "With shorter sleeves"


@pytest.mark.parametrize("joining", list(Joining))
def test_a_single_caption_is_used_as_it_is(joining: Joining) -> None:
    assert joined((" Make it RED. ",), joining) == " Make it RED. "
    assert training_texts((" Make it RED. ",)) == (" Make it RED. ",)


def test_no_caption_is_refused() -> None:
    with pytest.raises(ValueError, match="no caption"):
        joined(())


def test_an_empty_caption_keeps_its_place() -> None:
    assert joined(("", "is red")) == " and is red"


@pytest.mark.skipif(not FASHIONIQ.is_dir(), reason="the real FashionIQ annotation is not there")
def test_real_captions_are_joined_as_published() -> None:
    for path in sorted(FASHIONIQ.glob("cap.*.val.json")):
        for entry in json.loads(path.read_text()):
            first, second = entry["captions"]
            assert joined((first, second)) == by_the_facts(first, second)[0]
