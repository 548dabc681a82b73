"""Columns of a catalog as attributes: which are taken, and why. Pure.

An attribute is a column whose values many items share: "colour" with red, blue, green. A value that is empty,
said to be unknown or doubled is unknown, which is not the same as another value: nothing follows from it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int32]
Payloads = Sequence[Mapping[str, object]]

UNKNOWN, ABSENT = -1, -2
"""Codes of a value that nobody knows, and of one that an item of its kind does not have."""

#: Items that share a value for it to count as one; rarer ones are unknown.
RARE = 3
_MOST_VALUES = 300
_LEAST_KNOWN, _LEAST_SHARE = 20, 0.02
_ONE_VALUE = 0.99
_COMMON_SHARE = 0.6
_SAME = 0.98
_LONG_CHARACTERS, _LONG_WORDS = 40, 5
_FEW_NUMBERS, _BINS = 12, 4
# A finer attribute depends on another where that explains this much of its being there.
_DEPENDS, _ABSENT_SHARE, _LEAST_OF_KIND = 0.3, 0.05, 5
_NOTHING = frozenset(
    (
        "",
        "-",
        "--",
        "?",
        "n/a",
        "na",
        "nan",
        "none",
        "null",
        "unknown",
        "unspecified",
        "not specified",
        "undefined",
        "未知",
        "无",
        "不详",
        "unbekannt",
        "keine angabe",
    )
)


class AdaptError(ValueError):
    """A catalog, file or option that nothing can be learnt from; the message has the numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Attribute:
    """A column of n items: `codes` (n,) are places in `values`, UNKNOWN or ABSENT.

    `word` names it in texts, `values` are words. The values of an `ordered` one are bins of a number, lowest
    first. `head` is the attribute that says which items have this one at all, "" where all do. `visible` is
    the share of its values that the images tell beyond guessing, as far as it was measured.
    """

    name: str
    word: str
    values: tuple[str, ...]
    codes: Codes
    ordered: bool = False
    head: str = ""
    visible: float = float("nan")

    @property
    def known(self) -> NDArray[np.bool_]:
        """True for the items whose value is known, (n,)."""
        return self.codes >= 0


@dataclass(frozen=True, slots=True)
class ColumnReport:
    """Decision about one column: `role` is "attribute", "title" or "left out", `reason` says why.

    `values` counts its different values, `known` the items that have one, `doubled` those that have several.
    """

    name: str
    role: str
    reason: str
    values: int = 0
    known: int = 0
    doubled: int = 0


@dataclass(frozen=True, slots=True)
class ColumnWords:
    """Words of one column in place of its own: its name, its values by how they stand in the catalog, and
    phrasings of its own."""

    word: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    phrasings: tuple[str, ...] = ()


NO_WORDS: Mapping[str, ColumnWords] = {}


def read_columns(
    payloads: Payloads,
    *,
    columns: Collection[str] = (),
    exclude: Collection[str] = (),
    words: Mapping[str, ColumnWords] = NO_WORDS,
) -> tuple[list[Attribute], list[ColumnReport]]:
    """Return the columns that can be attributes, those of most items first, and a report on the others.

    With `columns` only those are looked at, and one of them that cannot be used is an error.

    Raises:
        AdaptError: A column that was named is not there or cannot be an attribute.
    """
    names = sorted({name for payload in payloads for name in payload})
    if missing := sorted({*columns, *exclude} - set(names)):
        listed = ", ".join(names) or "none"
        raise AdaptError(f"the catalog has no column {missing[0]!r}; it has: {listed}")
    attributes: list[Attribute] = []
    reports: list[ColumnReport] = []
    for name in names:
        if name in exclude or (columns and name not in columns):
            why = "excluded" if name in exclude else "not among the columns that were named"
            reports.append(ColumnReport(name, "left out", why))
            continue
        attribute, report = read_column(name, payloads, words.get(name, ColumnWords()))
        if attribute is None:
            if columns:
                raise AdaptError(f"the column {name!r} cannot be used: {report.reason}")
            reports.append(report)
        else:
            attributes.append(attribute)
    attributes.sort(key=lambda one: (-int(one.known.sum()), names.index(one.name)))
    kept: list[Attribute] = []
    for attribute in attributes:
        why = ""
        if attribute.name not in columns:
            twin = next((one for one in kept if _follows(one, attribute) and _follows(attribute, one)), None)
            parts = [one for one in attributes if one is not attribute and _follows(one, attribute)]
            finer = [one for one in parts if len(one.values) < len(attribute.values)]
            if twin is not None:
                why = f"says the same as {twin.name!r}"
            elif len(finer) > 1:
                why = f"spells out {', '.join(repr(one.name) for one in finer)}"
            elif _words_of(attribute.name) in _TITLES:
                why = "named like a title"
        if why:
            reports.append(_report(attribute, "left out", why))
        else:
            kept.append(attribute)
    return kept, reports


def read_column(
    name: str, payloads: Payloads, words: ColumnWords = ColumnWords()
) -> tuple[Attribute | None, ColumnReport]:
    """Return a column as an attribute, or None with the reason in the report."""
    cells = [_single(payload.get(name)) for payload in payloads]
    doubled = sum(cell is _DOUBLED for cell in cells)
    present = [cell for cell in cells if cell is not None and cell is not _DOUBLED]
    counts = Counter(present)

    def left_out(reason: str) -> tuple[None, ColumnReport]:
        return None, ColumnReport(name, "left out", reason, len(counts), len(present), doubled)

    if doubled > len(present):
        return left_out(f"{doubled:,} of {doubled + len(present):,} items have several values")
    least = max(_LEAST_KNOWN, round(_LEAST_SHARE * len(payloads)))
    if len(present) < least:
        return left_out(
            f"{len(present):,} of {len(payloads):,} items have a single value; at least {least:,} must"
        )
    (top, often), *_ = counts.most_common(1)
    if often >= _ONE_VALUE * len(present):
        return left_out(f"one value everywhere: {_shown(top)} in {often:,} of {len(present):,} items")
    numbers = all(isinstance(cell, (int, float)) and not isinstance(cell, bool) for cell in counts)
    if numbers and len(counts) > _FEW_NUMBERS:
        return _binned(name, cells, words), ColumnReport(name, "attribute", "", len(counts), len(present))
    texts = [_words_of(cell) for cell in present]
    length, count = median(map(len, texts)), median(len(text.split()) for text in texts)
    if length > _LONG_CHARACTERS or count > _LONG_WORDS:
        return left_out(f"texts of {length:,.0f} characters and {count:,.0f} words, not values")
    folded = Counter(texts)
    common = [value for value, number in folded.most_common(_MOST_VALUES) if number >= RARE]
    covered = sum(folded[value] for value in common)
    if covered < _COMMON_SHARE * len(present):
        return left_out(
            f"{len(folded):,} values for {len(present):,} items; {covered:,} items have one that {RARE} share"
        )
    place = {value: code for code, value in enumerate(sorted(common))}
    codes = np.array(
        [
            UNKNOWN if cell is None or cell is _DOUBLED else place.get(_words_of(cell), UNKNOWN)
            for cell in cells
        ],
        np.int32,
    )
    said = {_words_of(_single(raw)): text for raw, text in words.values.items()}
    word = words.word or _words_of(name)
    values = tuple(said.get(value, _of_bool(value, word)) for value in sorted(common))
    attribute = Attribute(name, word, values, codes)
    return attribute, _report(attribute, "attribute", "", doubled)


def infer_absent(attributes: Sequence[Attribute]) -> list[Attribute]:
    """Tell values that items of a kind do not have from those that nobody knows.

    A skirt has no neckline: where one attribute explains whether another is there, the kinds of which hardly
    any item has it do not have it.
    """
    result = []
    for one in attributes:
        codes = np.where(one.codes == ABSENT, UNKNOWN, one.codes).astype(np.int32)
        there = codes >= 0
        heads = [head for head in attributes if head is not one and head.known.sum() > there.sum()]
        explained = {id(head): _explained(there, head) for head in heads}
        best = max(heads, key=lambda head: explained[id(head)], default=None)
        head = ""
        if best is not None and explained[id(best)] > _DEPENDS:
            head = best.name
            for value in range(len(best.values)):
                of_kind = best.codes == value
                count = int(of_kind.sum())
                if count >= _LEAST_OF_KIND and there[of_kind].sum() <= _ABSENT_SHARE * count:
                    codes[of_kind] = ABSENT
        result.append(replace(one, codes=codes, head=head))
    return result


def main_attributes(attributes: Sequence[Attribute]) -> list[Attribute]:
    """The attributes that every kind of item has."""
    return [one for one in attributes if not one.head]


def _explained(there: NDArray[np.bool_], head: Attribute) -> float:
    """The share of the variance of `there` that the values of `head` explain, in [0, 1]."""
    known = head.known
    codes, seen = head.codes[known], there[known].astype(np.float64)
    total = seen.var() * len(seen)
    if not total:
        return 0.0
    counts = np.bincount(codes, minlength=len(head.values))
    means = np.bincount(codes, seen, len(head.values)) / np.maximum(counts, 1)
    return float((counts * (means - seen.mean()) ** 2).sum() / total)


def _follows(one: Attribute, other: Attribute) -> bool:
    """Return true if the value of `one` follows from that of `other`, beyond what is common anyway."""
    both = one.known & other.known
    if both.sum() < max(RARE * len(other.values), 0.5 * min(one.known.sum(), other.known.sum())):
        return False
    pairs = np.zeros((len(other.values), len(one.values)), np.int64)
    np.add.at(pairs, (other.codes[both], one.codes[both]), 1)
    commonest = pairs.sum(axis=0).max()
    return bool(commonest < _SAME * both.sum() <= pairs.max(axis=1).sum())


_TITLES = ("title", "name", "product name", "caption", "标题", "名称", "description", "titel", "beschreibung")
_TITLE_WORDS = (2.0, 60.0)
_DOUBLED = object()


def _single(cell: object) -> object:
    """The one value of a cell: None where there is none, _DOUBLED where there are several."""
    if isinstance(cell, (list, tuple)):
        values = list(dict.fromkeys(value for value in map(_single, cell) if value is not None))
        return None if not values else values[0] if len(values) == 1 else _DOUBLED
    if isinstance(cell, bool):
        return cell
    if isinstance(cell, (int, float)):
        return cell if np.isfinite(float(cell)) else None
    if isinstance(cell, str) and cell.strip().casefold() not in _NOTHING:
        return cell
    return None


_SPACES = re.compile(r"[\s_]+")


def _words_of(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return _SPACES.sub(" ", str(value)).strip().casefold()


def _of_bool(value: str, word: str) -> str:
    return {"yes": word, "no": f"not {word}"}.get(value, value)


def _binned(name: str, cells: Sequence[object], words: ColumnWords) -> Attribute:
    numbers = np.array([float(c) if isinstance(c, (int, float)) else np.nan for c in cells], np.float64)
    known = np.isfinite(numbers)
    edges = np.unique(np.quantile(numbers[known], np.linspace(0, 1, _BINS + 1)[1:-1]))
    codes = np.where(known, np.searchsorted(edges, numbers, side="right"), UNKNOWN).astype(np.int32)
    values = tuple(
        f"{np.median(numbers[codes == code]):g}" if (codes == code).any() else ""
        for code in range(len(edges) + 1)
    )
    return Attribute(name, words.word or _words_of(name), values, codes, ordered=True)


def _report(attribute: Attribute, role: str, reason: str, doubled: int = 0) -> ColumnReport:
    known = int(attribute.known.sum())
    return ColumnReport(attribute.name, role, reason, len(attribute.values), known, doubled)


def _shown(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


#: Words of a title that are read; what follows is not.
TITLE_WORDS = 30


def find_title(payloads: Payloads, *, title: str = "", exclude: Collection[str] = ()) -> tuple[str, str]:
    """Return the column of titles and why; ("", reason) where there is none.

    Raises:
        AdaptError: The column `title` is not there or holds no texts.
    """
    shares: dict[str, tuple[int, float]] = {}
    for name in sorted({name for payload in payloads for name in payload} - set(exclude)):
        texts = [
            cell for cell in (payload.get(name) for payload in payloads) if isinstance(cell, str) and cell
        ]
        counts = [min(len(text[:1000].split()), TITLE_WORDS) for text in texts]
        if texts and len(texts) >= 0.5 * len(payloads):
            shares[name] = (len(texts), float(np.mean(counts)))
    if title:
        if title not in shares:
            raise AdaptError(f"the column {title!r} has texts in less than half of {len(payloads):,} items")
        return title, "named"
    fit = [name for name, (_, words) in shares.items() if _TITLE_WORDS[0] <= words <= _TITLE_WORDS[1]]
    named = [one for one in _TITLES for name in fit if _words_of(name) == one]
    chosen = next((name for one in named for name in fit if _words_of(name) == one), "")
    if not chosen:
        return "", "no column of texts is named like a title (title, name, caption, description)"
    return chosen, f"texts of {shares[chosen][1]:.0f} words in {shares[chosen][0]:,} items"
