"""Changes of attributes said as texts: phrasings in English and Chinese, and files of one's own.

Phrasings are split as combinations are: those of the test are never trained on, so that what is measured is
not the recognition of a sentence. `{new}` and `{old}` are the words of the values, `{a_new}` and `{a_old}`
the same with an article, `{column}` the word of the column.
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from string import Formatter
from typing import Literal

from combiner_training.adapt.columns import AdaptError, Attribute, ColumnWords

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class Language(StrEnum):
    """Languages of the built-in phrasings; AUTO takes Chinese where most values are written in it."""

    AUTO = "auto"
    ENGLISH = "en"
    CHINESE = "zh"


@dataclass(frozen=True, slots=True)
class Change:
    """A column's word with the words of its value before ("" for unknown) and after."""

    column: str
    word: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class PhrasingSet:
    """Phrasings of one split: of any column, of columns by role, and of two changes at once."""

    any: tuple[str, ...]
    both: tuple[str, ...]
    kind: tuple[str, ...] = ()
    colour: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_ENGLISH: Mapping[SplitName, PhrasingSet] = {
    "train": PhrasingSet(
        any=(
            "{new}",
            "{new} instead",
            "make it {new}",
            "is {new}",
            "it should be {new}",
            "but {new}",
            "the same, but {new}",
            "the same, only {new}",
            "this one, only {new}",
            "change it to {new}",
            "{new} instead of {old}",
            "not {old} but {new}",
            "rather {new} than {old}",
            "I want it {new}",
            "{column}: {new}",
            "change the {column} to {new}",
            "the {column} should be {new}",
            "{new} {column}",
            "with {new}",
            "has {new}",
            "in {new}",
            "no longer {old}, now {new}",
        ),
        kind=(
            "{a_new}",
            "{a_new} instead",
            "make it {a_new}",
            "is {a_new}",
            "{a_new} like this",
            "{a_new} like this one",
            "change it to {a_new}",
            "show me {a_new} like this",
            "{a_new} instead of {a_old}",
            "not {a_old} but {a_new}",
            "the same, but {a_new}",
            "I want {a_new} that looks like this",
        ),
        colour=(
            "in {new}",
            "the same in {new}",
            "the {new} one",
            "make the {column} {new}",
            "in {new} instead of {old}",
            "the same thing in {new}",
        ),
        both=("{first} and {second}", "{first}, {second}", "{first} and also {second}"),
    ),
    "val": PhrasingSet(
        any=("have this {new}", "{new} would be better", "turn {old} into {new}"),
        kind=("this as {a_new}", "{a_new} with the same look"),
        colour=("have this in {new}", "{new} as its {column}"),
        both=("{first} plus {second}", "{first} together with: {second}"),
    ),
    "test": PhrasingSet(
        any=(
            "same thing but {new}",
            "swap {old} for {new}",
            "{column} {new}, the rest as it is",
            "{new} this time",
        ),
        kind=("I'd like {a_new} in this style", "do you have {a_new} like that"),
        colour=("do you have it in {new}", "the {new} variant"),
        both=("{first}; {second}", "{first}, while {second}"),
    ),
}
_CHINESE: Mapping[SplitName, PhrasingSet] = {
    "train": PhrasingSet(
        any=(
            "{new}",
            "{new}的",
            "换成{new}",
            "改成{new}",
            "要{new}的",
            "同款，但是{new}",
            "一样的，只是{new}",
            "不要{old}，要{new}",
            "把{old}换成{new}",
            "{column}改成{new}",
            "{column}换成{new}",
            "{column}：{new}",
            "{column}应该是{new}",
        ),
        both=("{first}，{second}", "{first}，并且{second}", "{first}和{second}"),
    ),
    "val": PhrasingSet(any=("来个{new}的", "{column}要{new}"), both=("{first}，而且{second}",)),
    "test": PhrasingSet(
        any=("有没有{new}的", "我想要{new}的款式", "{old}换一下，要{new}"), both=("{first}，同时{second}",)
    ),
}
_BUILT_IN = {Language.ENGLISH: _ENGLISH, Language.CHINESE: _CHINESE}

_KINDS = frozenset(
    (
        "kind",
        "type",
        "category",
        "subcategory",
        "product type",
        "article type",
        "class",
        "product",
        "garment",
        "label",
        "类别",
        "品类",
        "种类",
        "类型",
        "kategorie",
        "art",
    )
)
_COLOURS = frozenset(("colour", "color", "base colour", "main colour", "basecolour", "颜色", "farbe"))
_PLACEHOLDERS = frozenset(("new", "old", "a_new", "a_old", "column"))
_MOST_PHRASINGS, _MOST_CHARACTERS = 10_000, 200
# Own phrasings are split where there are enough for each split to have its own.
_TO_SPLIT = 6
_JOINED = 0.3


class Phrasings:
    """Texts for changes, by split. `own` ones are added to the built-in ones, or replace them."""

    def __init__(
        self,
        language: Language,
        *,
        own: Sequence[str] = (),
        columns: Mapping[str, ColumnWords] = {},
        built_in: bool = True,
    ) -> None:
        self._english = language is not Language.CHINESE
        base = _BUILT_IN[Language.CHINESE if language is Language.CHINESE else Language.ENGLISH]
        parts = _split(own)
        self._sets: dict[SplitName, PhrasingSet] = {}
        for split in SPLITS:
            one = base[split]
            self._sets[split] = PhrasingSet(
                any=(*one.any, *parts[split]) if built_in else parts[split],
                both=one.both,
                kind=one.kind if built_in else (),
                colour=one.colour if built_in else (),
                columns={name: _split(words.phrasings)[split] for name, words in columns.items()},
            )

    def phrase(self, changes: Sequence[Change], split: SplitName, rng: random.Random) -> str:
        """Return a text that says one or two changes, in a phrasing of the split."""
        said = self._sets[split]
        if len(changes) == 1:
            return self._single(changes[0], said, rng)
        first, second = changes if rng.random() < 0.5 else changes[::-1]
        if self._english and rng.random() < _JOINED:
            kind, other = (first, second) if is_kind(first.word) else (second, first)
            if is_kind(kind.word) and not is_kind(other.word) and len(other.new.split()) == 1:
                joined = Change(kind.column, kind.word, kind.old, f"{other.new} {kind.new}")
                return self._single(joined, said, rng)
        parts = [self._single(change, said, rng) for change in (first, second)]
        return rng.choice(said.both).format(first=parts[0], second=parts[1])

    def count(self, split: SplitName) -> int:
        """The number of phrasings of one change in a split."""
        one = self._sets[split]
        return len({*one.any, *one.kind, *one.colour, *(t for own in one.columns.values() for t in own)})

    def _single(self, change: Change, said: PhrasingSet, rng: random.Random) -> str:
        role = said.kind if is_kind(change.word) else said.colour if is_colour(change.word) else ()
        own = said.columns.get(change.column, ())
        # What is meant for this column is as likely as what is meant for any.
        pools = [pool for pool in (said.any, role, own) if pool]
        for pool in rng.sample(pools, len(pools)):
            usable = [
                one
                for one in pool
                if (change.old or "old}" not in one) and (change.word or "{column}" not in one)
            ]
            if usable:
                return rng.choice(usable).format(
                    new=change.new,
                    old=change.old,
                    a_new=with_article(change.new),
                    a_old=with_article(change.old),
                    column=change.word,
                )
        return change.new


def is_kind(word: str) -> bool:
    """Return true for the word of a column that says what a thing is."""
    return word in _KINDS


def is_colour(word: str) -> bool:
    """Return true for the word of a column of colours."""
    return word in _COLOURS


def with_article(words: str) -> str:
    """A noun with its article: "a dress", "an orange hat", "trousers"."""
    if not words or (words.endswith("s") and not words.endswith("ss")):
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def choose_language(language: Language, attributes: Sequence[Attribute], titles: Sequence[str]) -> Language:
    """Return the language that was asked for, or that most values or titles are written in."""
    if language is not Language.AUTO:
        return language
    texts = [value for one in attributes for value in one.values] or list(titles[:1000])
    chinese = sum(any(is_chinese(letter) for letter in text) for text in texts)
    return Language.CHINESE if texts and chinese > 0.5 * len(texts) else Language.ENGLISH


def is_chinese(letter: str) -> bool:
    """Return true for a Chinese character."""
    return "CJK" in unicodedata.name(letter, "")


@dataclass(frozen=True, slots=True)
class PhrasingFile:
    """Phrasings and words of one's own: for any column, and by column."""

    phrasings: tuple[str, ...] = ()
    columns: Mapping[str, ColumnWords] = field(default_factory=dict)
    built_in: bool = True


def read_phrasings(path: Path) -> PhrasingFile:
    """Read a JSON file `{"phrasings": [...], "columns": {NAME: {"word", "values", "phrasings"}}}`.

    Every member may be left out. `word` is what texts call the column, `values` what they call its values,
    `built_in` false takes the file's phrasings alone; it stands beside `phrasings`.

    Raises:
        AdaptError: The file cannot be used; the message names the member.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise AdaptError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise AdaptError(f"{path} is not JSON in UTF-8: {error}") from None
    whole = _object(document, f"{path}", ("phrasings", "columns", "built_in"))
    columns = {}
    for name, entry in _object(whole.get("columns", {}), f"{path}, columns").items():
        where = f"{path}, columns, {name!r}"
        of_column = _object(entry, where, ("word", "values", "phrasings"))
        values = _object(of_column.get("values", {}), f"{where}, values")
        columns[name] = ColumnWords(
            _text(of_column.get("word", ""), f"{where}, word"),
            {value: _text(word, f"{where}, values, {value!r}") for value, word in values.items()},
            _phrasings(of_column.get("phrasings", []), f"{where}, phrasings"),
        )
    built_in = whole.get("built_in", True)
    if not isinstance(built_in, bool):
        raise AdaptError(f"{path}, built_in is {built_in!r}; expected true or false")
    phrasings = _phrasings(whole.get("phrasings", []), f"{path}, phrasings")
    if not built_in and not phrasings:
        raise AdaptError(f"{path} has no phrasings and turns the built-in ones off; give at least one")
    return PhrasingFile(phrasings, columns, built_in)


def _phrasings(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MOST_PHRASINGS:
        raise AdaptError(f"{where} is no list of at most {_MOST_PHRASINGS:,} texts")
    for one in value:
        text = _text(one, where)
        try:
            names = {name for _, name, spec, turn in Formatter().parse(text) if name is not None and not spec}
        except ValueError as error:
            raise AdaptError(f"{where}, {text!r}: {error}; braces stand around placeholders alone") from None
        if not names & {"new", "a_new"} or names - _PLACEHOLDERS or re.search(r"[{}][^{}]*[!:]", text):
            listed = ", ".join(f"{{{name}}}" for name in sorted(_PLACEHOLDERS))
            raise AdaptError(f"{where}, {text!r} needs {{new}} or {{a_new}}, and no others than {listed}")
    return tuple(dict.fromkeys(value))


def _object(value: object, where: str, known: Sequence[str] = ()) -> dict[str, object]:
    if not isinstance(value, dict):
        raise AdaptError(f"{where} is a {type(value).__name__}; expected an object")
    if known and (unknown := sorted(value.keys() - set(known))):
        raise AdaptError(f"{where} has a member {unknown[0]!r}; expected {', '.join(known)}")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or len(value) > _MOST_CHARACTERS:
        raise AdaptError(
            f"{where} holds {str(value)[:60]!r}; expected a text of {_MOST_CHARACTERS} characters at most"
        )
    return " ".join(value.split())


def _split(own: Sequence[str]) -> dict[SplitName, tuple[str, ...]]:
    """Own phrasings by split, one in six for each of val and test; all for each where there are few."""
    if len(own) < _TO_SPLIT:
        return dict.fromkeys(SPLITS, tuple(own))
    return {
        "train": tuple(one for at, one in enumerate(own) if at % _TO_SPLIT not in (4, 5)),
        "val": tuple(own[4::_TO_SPLIT]),
        "test": tuple(own[5::_TO_SPLIT]),
    }
