"""Words of texts: what a text field is found by, so that every engine has the same words.

A text is normalised (Unicode NFKC) and case folded. A word is then a longest run of letters and digits, with
the marks that are vowels and tones of its script. Scripts that put no space between words are split by
characters instead: a text is found by all their neighbours, pairs in Chinese, Japanese and Korean, up to
triples where a script has few letters, as Thai. What a filter gives in such a script is found wherever it
stands; a text that has all those neighbours in different places passes as well.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache

# Normalisation sorts the marks of a run in quadratic time. No word of a language has more (UAX 15,
# Stream-Safe Text Format).
_MARKS_IN_A_ROW = 30
_LAST_MARK = 0x1F000

_WORD = re.compile(r"[^\W_]+")

# Han, kana, bopomofo, Hangul, Yi, Tangut and Nushu, after normalisation.
_IDEOGRAPHS = (
    "\u1100-\u11ff\u3005-\u3007\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f"
    "\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48c\ua960-\ua97c\uac00-\ud7a3"
    "\ud7b0-\ud7fb\uf900-\ufaff\U00017000-\U00018cff\U0001aff0-\U0001b2ff\U00020000-\U0003fffd"
)
# Thai, Lao, Myanmar, Khmer, the scripts of Tai languages, Javanese and Balinese, with their marks and digits.
_LETTERS = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e81-\u0edf\u1000-\u1049\u1050-\u109f\u1780-\u17d3\u17d7\u17dc\u17dd"
    "\u17e0-\u17e9\u1950-\u1974\u1980-\u19da\u1a20-\u1a99\u1b00-\u1b4c\u1b50-\u1b59\ua980-\ua9c0\ua9d0-\ua9d9"
    "\ua9e0-\ua9fe\uaa60-\uaadd"
)
# Most characters of which neighbours are a term.
_PAIRS, _TRIPLES = 2, 3
_RUNS = re.compile(f"([{_IDEOGRAPHS}]+)|([{_LETTERS}]+)")
# Variation selectors, and breaks that are not seen, within such scripts.
_UNSEEN = re.compile(
    f"(?<=[{_IDEOGRAPHS}{_LETTERS}])[\u00ad\u200b\u2060\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]+"
)
# Vowel points of Hebrew and Arabic and the line that stretches an Arabic word: most texts have none.
_POINTS = re.compile(
    "[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc"
    "\u06df-\u06e8\u06ea-\u06ed]+"
)
# Marks that no script has for itself. They end a word, as in "x\u0302" (few letters have no sign with it).
_COMMON_MARKS = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f"
# Characters without which a text is of words and spaces alone: none is Latin, Greek or Cyrillic.
_OTHER_SCRIPTS = re.compile("[\u0590-\u1cff\u2cef-\ua63f\ua66f-\ua71f\ua7ff-\uab2f\uabc0-\U0010ffff]")


@cache
def _many_marks() -> re.Pattern[str]:
    """Match runs of too many characters that are marks, or become them when they are normalised."""
    marks = "".join(
        character
        for character in map(chr, range(0x300, _LAST_MARK))
        if unicodedata.combining(unicodedata.normalize("NFKD", character)[0])
    )
    return re.compile(f"[{re.escape(marks)}]{{{_MARKS_IN_A_ROW + 1},}}")


@cache
def _marked_word() -> re.Pattern[str]:
    marks = "".join(c for c in map(chr, range(0x300, _LAST_MARK)) if unicodedata.category(c)[0] == "M")
    marks = re.sub(f"[{_COMMON_MARKS}]", "", marks)
    return re.compile(rf"[^\W_]+(?:[{marks}]+[^\W_]*)*")


def leave_out_marks(text: str) -> str:
    """Leave out what is over 30 in each run of marks, so that a text is normalised in linear time."""
    return _many_marks().sub(lambda run: run[0][:_MARKS_IN_A_ROW], text)


def index_terms(texts: Iterable[str]) -> list[str]:
    """Return the different terms that texts are found by, in order of appearance.

    Of more than 30 combining marks in a row the first 30 count. Takes time in proportion to the texts'
    length.
    """
    return _terms(texts, lambda run, most: [g for size in range(1, most + 1) for g in _neighbours(run, size)])


def filter_terms(text: str) -> list[str]:
    """Return the terms that a text field must all have to have the words of `text`."""
    return _terms([text], lambda run, most: _neighbours(run, min(most, len(run))))


def _terms(texts: Iterable[str], split: Callable[[str, int], list[str]]) -> list[str]:
    found: dict[str, None] = {}
    for text in texts:
        bounded = text if text.isascii() else leave_out_marks(text)
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", bounded).casefold())
        if not _OTHER_SCRIPTS.search(folded):
            found.update(dict.fromkeys(_WORD.findall(folded)))
            continue
        # Every third piece is between runs, the others are runs of the one kind and of the other.
        pieces = iter(_RUNS.split(_POINTS.sub("", _UNSEEN.sub("", folded))))
        for between in pieces:
            found.update(dict.fromkeys(_marked_word().findall(between)))
            for most in (_PAIRS, _TRIPLES):
                if run := next(pieces, None):
                    found.update(dict.fromkeys(split(run, most)))
    return list(found)


def _neighbours(run: str, size: int) -> list[str]:
    return [run[start : start + size] for start in range(len(run) - size + 1)]
