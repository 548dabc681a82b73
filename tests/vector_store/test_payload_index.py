"""Paths of payload fields, and the words of texts."""

from __future__ import annotations

import re
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from vector_store.payload_index import data_path, escape_key, leave_out_marks, tokenize, unescape_key


@given(st.text())
def test_every_field_name_survives_and_fits_a_path(name: str) -> None:
    key = escape_key(name)
    assert unescape_key(key) == name
    assert '"' not in key
    assert data_path(name) == f'data."{key}"'


@given(st.text(alphabet='%25"C\\ab'), st.text(alphabet='%25"C\\ab'))
def test_different_names_have_different_keys(one: str, other: str) -> None:
    assert (escape_key(one) == escape_key(other)) == (one == other)


def test_words() -> None:
    assert tokenize(["Red  dress_long", "RED Ｄress!", "Straße 42"]) == [
        "red",
        "dress",
        "long",
        "strasse",
        "42",
    ]
    assert tokenize([" -_- "]) == []


# Characters that are marks, become several, or become marks only when they are normalised.
_MARKS = st.sampled_from("\u0301\u0316\u0344\u0f73\uff9e\uff9f\u1ab0\u3099\u0345\U0001d165\U0001e944")
_RUNS = st.lists(
    st.one_of(st.text(max_size=5), st.lists(_MARKS, max_size=6).map(lambda run: "".join(run) * 40)),
    max_size=6,
).map("".join)


def longest_run(text: str) -> int:
    """Return the length of the longest run of combining marks in a decomposed text."""
    marks = "".join("m" if unicodedata.combining(one) else "-" for one in unicodedata.normalize("NFKD", text))
    return max((len(run) for run in re.findall("m+", marks)), default=0)


@given(_RUNS)
def test_no_text_is_normalised_with_long_runs_of_marks(text: str) -> None:
    bounded = leave_out_marks(text)
    # A character becomes three marks at most, and one with a base of its own begins another run.
    assert longest_run(bounded) <= 3 * 30 + 3
    assert leave_out_marks(bounded) == bounded
    if longest_run(text) <= 30:
        assert bounded == text


@given(st.text())
def test_words_of_texts_without_such_runs_are_those_of_unicode(text: str) -> None:
    if longest_run(text) <= 30:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        assert tokenize([text]) == list(dict.fromkeys(re.findall(r"[^\W_]+", folded)))
