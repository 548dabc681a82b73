"""A catalog as a data set of composed queries: what is taken of it, why, and how much there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from combiner_service.combiner import Float32
from combiner_training.adapt.agreement import Agreement, compare_with_images
from combiner_training.adapt.columns import (
    AdaptError,
    Attribute,
    ColumnReport,
    find_title,
    infer_absent,
    main_attributes,
    read_columns,
)
from combiner_training.adapt.phrasings import (
    SPLITS,
    Language,
    PhrasingFile,
    Phrasings,
    SplitName,
    choose_language,
)
from combiner_training.adapt.titles import Titles, title_queries
from combiner_training.adapt.triplets import TripletDrawing, clear_rows, splits_of
from combiner_training.datasets.base import Dialogue, Query, Split
from service_runtime.options import check_options, option

#: Usable items below which nothing is trained.
LEAST_ITEMS = 200
_LEAST_VISIBLE = 0.3
_MOST_ATTRIBUTES = 8
# The fewer the items, the more each has to teach (docs/adapt.md has the figures with 8).
_TRIPLETS_PER_ITEM = 32
_VAL_PER_ITEM, _TEST_PER_ITEM, _DIALOGUES_PER_ITEM = 0.25, 0.5, 0.1
_MOST_VAL, _MOST_TEST, _MOST_DIALOGUES = 1_000, 2_000, 400
_LEAST_TRIPLETS, _LEAST_TEST = 200, 50


@dataclass(frozen=True, slots=True)
class CatalogItems:
    """Items of a catalog with their payloads and raw features (n, d); `left_out` counts the others by why."""

    catalog: str
    names: tuple[str, ...]
    payloads: tuple[Mapping[str, object], ...]
    features: Float32
    model_fingerprint: str
    model: Mapping[str, str]
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetOptions:
    """Options of a data set: columns that are taken, and how changes are said.

    Raises:
        AdaptError: A number is out of its bounds, or options contradict each other.
    """

    columns: tuple[str, ...] = option((), help="Take this column; repeatable. Default: what images show.")
    title: str = option(
        "", help="Column of titles; default: one that is named like a title, without `columns`."
    )
    exclude: tuple[str, ...] = option((), help="Leave this column out; repeatable.")
    language: Language = option(Language.AUTO, help="Built-in phrasings: en, zh, or auto by the values.")
    correct: bool = option(
        True, help="Take unknown values from the images where they tell them, and drop what they contradict."
    )
    most_triplets: int = option(32_000, min=200, help="Triplets to train on; 32 for each item at the most.")
    seed: int = option(0, min=0, help="Of the queries that are drawn, and of the training.")

    def __post_init__(self) -> None:
        check_options(self, AdaptError)
        if both := sorted({*self.columns, self.title} & set(self.exclude)):
            raise AdaptError(f"the column {both[0]!r} is both taken and excluded")


@dataclass(frozen=True, slots=True, eq=False)
class AdaptData:
    """Queries of a catalog by split, and the decisions that led to them. `usable` items can be references."""

    splits: Mapping[SplitName, Split]
    dialogues: tuple[Dialogue, ...]
    columns: tuple[ColumnReport, ...]
    agreements: tuple[Agreement, ...]
    notes: tuple[str, ...]
    usable: int
    language: Language

    def counts(self) -> dict[str, int]:
        """Queries by split, and dialogues."""
        return {
            **{name: len(split.queries) for name, split in self.splits.items()},
            "dialogues": len(self.dialogues),
        }


def make_dataset(
    items: CatalogItems, options: DatasetOptions, phrasing_file: PhrasingFile = PhrasingFile()
) -> AdaptData:
    """Build the queries of a catalog from its columns, from its titles where no column is of use.

    Raises:
        AdaptError: Nothing can be taken, or too little; the message says what is missing, with numbers.
    """
    reports: list[ColumnReport] = []
    attributes: list[Attribute] = []
    agreements: list[Agreement] = []
    notes: list[str] = []
    if not options.title or options.columns:
        named = {*options.columns} if options.columns else ()
        found, reports = read_columns(
            items.payloads, columns=named, exclude=options.exclude, words=phrasing_file.columns
        )
        attributes, agreements, more = _shown(found, items.features, options)
        reports += more
    if unknown := sorted(phrasing_file.columns.keys() - {one.name for one in reports}):
        raise AdaptError(f"the phrasings name a column {unknown[0]!r} that the catalog does not have")
    title, why = "", ""
    if not attributes or options.title:
        title, why = find_title(items.payloads, title=options.title, exclude=options.exclude)
    if not attributes and not title:
        raise AdaptError(_nothing(items, reports, why))
    texts = [str(payload.get(title, "")) if title else "" for payload in items.payloads]
    language = choose_language(options.language, attributes, texts)
    phrasings = Phrasings(
        language,
        own=phrasing_file.phrasings,
        columns=phrasing_file.columns,
        built_in=phrasing_file.built_in,
    )
    dialogues: tuple[Dialogue, ...] = ()
    count = len(items.names)
    gallery = items.names
    numbers = _numbers(count, options.most_triplets)
    if attributes:
        splits, whole = splits_of(attributes, items.names)
        if not whole:
            notes.append("fewer than 20 combinations of values: items are split, not combinations")
        drawing = TripletDrawing(attributes, items.names, splits, phrasings, items.features)
        usable = len(drawing.references("test"))
        # Of the others nobody knows if they are right answers.
        gallery = tuple(items.names[row] for row in np.flatnonzero(clear_rows(attributes)).tolist())
        _check_usable(items, attributes, usable)
        queries = {
            split: list(drawing.queries(split, number, options.seed)) for split, number in numbers.items()
        }
        talks = min(_MOST_DIALOGUES, round(_DIALOGUES_PER_ITEM * count))
        dialogues = tuple(drawing.dialogues("test", talks, options.seed))
    else:
        reports = [one for one in reports if one.name != title] + [ColumnReport(title, "title", why)]
        known = Titles(texts)
        if known.cut:
            notes.append(f"{known.cut:,} titles are longer than 1,000 characters; what follows is not read")
        usable = known.usable()
        if usable < LEAST_ITEMS:
            raise AdaptError(
                f"{usable:,} of {count:,} items have a title in {title!r} that differs from another by one "
                f"or two words; at least {LEAST_ITEMS} are needed, or columns whose values many items share"
            )
        of_row = known.splits()
        queries = {
            split: list(title_queries(known, items.names, of_row, phrasings, split, number, options.seed))
            for split, number in numbers.items()
        }
    if len(queries["train"]) < _LEAST_TRIPLETS or len(queries["test"]) < _LEAST_TEST:
        raise AdaptError(
            f"{count:,} items give {len(queries['train']):,} triplets to train on and "
            f"{len(queries['test']):,} to test; at least {_LEAST_TRIPLETS} and {_LEAST_TEST} are needed: "
            "more items, or columns with values that more of them share"
        )
    made = {name: _split(items, name, queries[name], gallery) for name in SPLITS}
    return AdaptData(made, dialogues, tuple(reports), tuple(agreements), tuple(notes), usable, language)


def _shown(
    found: Sequence[Attribute], features: Float32, options: DatasetOptions
) -> tuple[list[Attribute], list[Agreement], list[ColumnReport]]:
    """Return the attributes that the images show, corrected; and a report on every one."""
    if not found:
        return [], [], []
    compared, agreements = compare_with_images(found, features, correct=options.correct)
    told = {one.name: one for one in agreements}
    reports = []
    taken: list[Attribute] = []
    order = sorted(compared, key=lambda one: (bool(one.head), -int(one.known.sum())))
    for one in order:
        agreement = told[one.name]
        reason = f"the images tell {agreement.agreement:.0%} of {int(one.known.sum()):,} values"
        if one.head:
            reason += f"; which items have one depends on {one.head!r}"
        counts = {
            "filled in from the images": agreement.filled,
            "contradicted, set aside": agreement.set_aside,
        }
        reason += "".join(f"; {number:,} {what}" for what, number in counts.items() if number)
        visible = one.name in options.columns or one.visible >= _LEAST_VISIBLE
        if visible and len(taken) < _MOST_ATTRIBUTES:
            taken.append(one)
            reports.append(ColumnReport(one.name, "attribute", reason, len(one.values), int(one.known.sum())))
            continue
        guessed = (
            f"{agreement.guessed_from!r} tells as much" if agreement.guessed_from else "guessing does as well"
        )
        why = (
            f"the images do not show it: {guessed}"
            if not visible
            else f"{_MOST_ATTRIBUTES} columns are taken"
        )
        reports.append(ColumnReport(one.name, "left out", why, len(one.values), int(one.known.sum())))
    left = {one.name for one in taken}
    taken = [one for one in taken if not one.head or one.head in left]
    return _enough_known(infer_absent(taken), reports), agreements, reports


def _enough_known(attributes: list[Attribute], reports: list[ColumnReport]) -> list[Attribute]:
    """Drop attributes that are so often unknown that too few items would be references."""
    kept = list(attributes)
    while len(kept) > 1:
        clear = int(clear_rows(kept).sum())
        without = {one.name: int(clear_rows([o for o in kept if o is not one]).sum()) for one in kept}
        worst = max(without, key=lambda name: without[name])
        if clear >= max(LEAST_ITEMS, 0.3 * len(kept[0].codes)) or without[worst] < 1.1 * clear + 1:
            break
        kept = [one for one in kept if one.name != worst and one.head != worst]
        why = f"unknown so often that {clear:,} items would be left with it, {without[worst]:,} without"
        for at, report in enumerate(reports):
            if report.name == worst:
                reports[at] = replace(report, role="left out", reason=why)
    return kept


def _check_usable(items: CatalogItems, attributes: Sequence[Attribute], usable: int) -> None:
    if usable >= LEAST_ITEMS:
        return
    known = ", ".join(f"{one.name} {int(one.known.sum()):,}" for one in main_attributes(attributes))
    raise AdaptError(
        f"{usable:,} of {len(items.names):,} items have a single known value in every attribute; at least "
        f"{LEAST_ITEMS} are needed. Known values: {known}; fill in what is missing, or name fewer `columns`"
    )


def _nothing(items: CatalogItems, reports: Sequence[ColumnReport], why: str) -> str:
    listed = "; ".join(f"{one.name}: {one.reason}" for one in reports[:12]) or "there are no columns"
    more = f"; and {len(reports) - 12} more columns" if len(reports) > 12 else ""
    return (
        f"no column of {len(items.names):,} items can be learnt from ({listed}{more}), and no titles: {why}. "
        "Index columns such as colour and kind, or name one with `columns` or `title`"
    )


def _numbers(count: int, most: int) -> dict[SplitName, int]:
    return {
        "train": min(most, _TRIPLETS_PER_ITEM * count),
        "val": min(_MOST_VAL, round(_VAL_PER_ITEM * count)),
        "test": min(_MOST_TEST, round(_TEST_PER_ITEM * count)),
    }


def _split(items: CatalogItems, name: SplitName, queries: Sequence[Query], gallery: tuple[str, ...]) -> Split:
    # Answers are looked for whatever their split, as in the shop.
    return Split(items.catalog, name, tuple(queries), gallery, {each: Path(each) for each in gallery})


def feature_rows(features: Float32) -> NDArray[np.bool_]:
    """True for rows of features that are finite and have a direction, (n,)."""
    rows: NDArray[np.bool_] = np.isfinite(features).all(axis=1) & (np.abs(features).max(axis=1) > 0)
    return rows
