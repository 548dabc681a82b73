"""The words that texts are found by, in scripts with spaces between words and without."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_store.words import filter_terms, index_terms, leave_out_marks


def has(text: str, words: str) -> bool:
    """Return true where a field with `text` passes a filter with `words`."""
    return set(filter_terms(words)) <= set(index_terms([text]))


def test_words() -> None:
    for terms in (index_terms, lambda texts: filter_terms(" ".join(texts))):
        assert terms(["Red  dress_long", "RED Ｄress!", "Straße 42"]) == [
            "red",
            "dress",
            "long",
            "strasse",
            "42",
        ]
        assert terms([" -_- "]) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("红色连衣裙", "连衣裙"),
        ("红色连衣裙", "裙 红色"),
        ("iPhone手机壳，2024年新款", "2024年 IPHONE 手机"),
        ("赤いワンピース", "ワンピース"),
        ("赤いﾜﾝﾋﾟｰｽ", "ワンピース"),
        ("빨간원피스를 입다", "원피스"),
        ("ชุดเดรสสีแดง", "สีแดง"),
        ("ชุด\u200bเดรส", "ชุดเดรส"),
        ("រ៉ូបក្រហម", "ក្រហម"),
        ("ສີແດງເຂັ້ມ", "ແດງ"),
        ("အနီရောင်ဂါဝန်", "ဂါဝန်"),
        ("葛\U000e0100城", "葛城"),
        ("लाल किताब", "किताब"),
        ("كِتَابٌ", "كتاب"),
        ("مـحـمـد", "محمد"),
        ("סֵפֶר", "ספר"),
    ],
)
def test_words_of_many_scripts_are_found(text: str, words: str) -> None:
    assert has(text, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("红色连衣裙", "衣连"),
        ("红色 连衣裙", "色连"),
        ("iPhone手机壳", "phone"),
        ("ワンピース", "ンワ"),
        ("ชุดเดรส", "ดชุ"),
        ("किताब", "कताब"),
        ("winter", "wint"),
    ],
)
def test_what_does_not_stand_together_is_not_found(text: str, words: str) -> None:
    assert not has(text, words)


# Letters that no neighbour of theirs changes when a text is normalised, with the marks that follow them.
_PAIRS = st.text(alphabet="红色连衣裙𠮷々ワンピースいあ한국어ㄅ", min_size=1, max_size=8).map(list)
_MARKED = (("กขคเสแ", ("", "ี", "ิ", "่")), ("ກຂຄແ", ("", "ີ")), ("ကခဂ", ("", "ိ")), ("កខគ", ("", "ិ")))
_TRIPLES = st.sampled_from(_MARKED).flatmap(
    lambda script: st.lists(
        st.builds(str.__add__, st.sampled_from(script[0]), st.sampled_from(script[1])), min_size=1, max_size=8
    )
)
_SPACED = st.sampled_from(
    ["red", "Straße", "été", "42", "красный", "ἀνήρ", "किताब", "ספר", "كتاب", " ", " - ", "。"]
)


@given(
    st.lists(st.one_of(_SPACED.map(lambda word: [word]), _PAIRS, _TRIPLES), min_size=1, max_size=6), st.data()
)
def test_whatever_stands_in_a_text_is_found(pieces: list[list[str]], data: st.DataObject) -> None:
    text = "".join(" ".join(piece) if len(piece) == 1 else "".join(piece) for piece in pieces)
    words = []
    for piece in pieces:
        if len(piece) > 1:
            start = data.draw(st.integers(0, len(piece) - 1))
            words.append("".join(piece[start : data.draw(st.integers(start + 1, len(piece)))]))
    assert has(text, " ".join(words))
    assert has(text, text)
    assert set(filter_terms(text)) <= set(index_terms(text.split()))


@given(_PAIRS, _PAIRS)
def test_a_word_is_found_where_all_its_pairs_stand(text: list[str], word: list[str]) -> None:
    run, wanted = "".join(text), "".join(word)
    pairs = [wanted] if len(wanted) == 1 else [wanted[at : at + 2] for at in range(len(wanted) - 1)]
    assert has(run, wanted) == all(pair in run for pair in pairs)


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


_SPACES_BETWEEN = st.characters(max_codepoint=0x58F) | st.characters(
    min_codepoint=0x1D00, max_codepoint=0x2C7F
)


@given(st.text(alphabet=_SPACES_BETWEEN))
def test_words_in_latin_greek_and_cyrillic_are_runs_of_letters_and_digits(text: str) -> None:
    if longest_run(text) <= 30:
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        words = list(dict.fromkeys(re.findall(r"[^\W_]+", folded)))
        assert index_terms([text]) == words
        assert filter_terms(text) == words
        # A word of another script beside them changes nothing.
        assert index_terms([text, "裙"]) == [*words, "裙"]
        assert index_terms([f"{text} 裙"]) == [*words, "裙"]
        assert [term for term in index_terms([f"裙 {text}"]) if term != "裙"] == words
