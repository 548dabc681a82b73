"""Checks of a split's files: images that can be read, queries that can be answered, and the report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from cir.errors import InvalidArgument
from cir.images import Decoder
from combiner_training.datasets.base import Query, Split


class ImageState(StrEnum):
    """Result of looking at an image's file."""

    GOOD = "good"
    MISSING = "missing"
    EMPTY = "empty"
    UNDECODABLE = "undecodable"


@dataclass(frozen=True, slots=True)
class SplitReport:
    """Counts of a split, and its faults.

    A query can be answered when its reference and, of its targets, at least one in the gallery can be used;
    where targets are withheld, the reference alone counts. The reference itself is a target only where it is
    kept among the answers; `only_reference` counts the queries that have no other in the gallery.
    `empty_texts` counts queries that have an empty text among theirs.
    """

    dataset: str
    name: str
    queries: int
    gallery: int
    images: int
    missing: tuple[str, ...]
    empty: tuple[str, ...]
    undecodable: tuple[str, ...]
    empty_texts: tuple[str, ...]
    without_targets: int
    only_reference: int
    answerable: int

    @property
    def answerable_share(self) -> float:
        """Share of the queries that can be answered, between 0 and 1."""
        return self.answerable / self.queries if self.queries else 0.0

    @property
    def complete(self) -> bool:
        """True if every image can be used and every query answered; empty texts are the annotation's own."""
        return not (self.missing or self.empty or self.undecodable) and self.answerable == self.queries


def make_report(
    split: Split, states: Mapping[Path, ImageState], *, reference_kept: bool = False
) -> SplitReport:
    """Sum a split up; `states` has every path in `split.paths`. Pure.

    `reference_kept` is true where the protocol keeps the reference among the answers.
    """

    def named(state: ImageState) -> tuple[str, ...]:
        return tuple(name for name, path in split.paths.items() if states[path] is state)

    usable = set(named(ImageState.GOOD))
    listed = set(split.gallery)
    answers = usable & listed
    return SplitReport(
        dataset=split.dataset,
        name=split.name,
        queries=len(split.queries),
        gallery=len(split.gallery),
        images=len(split.paths),
        missing=named(ImageState.MISSING),
        empty=named(ImageState.EMPTY),
        undecodable=named(ImageState.UNDECODABLE),
        empty_texts=tuple(query.id for query in split.queries if not all(map(str.strip, query.texts))),
        without_targets=sum(not query.targets for query in split.queries),
        only_reference=sum(
            listed.intersection(query.targets) == {query.reference} for query in split.queries
        ),
        answerable=sum(
            _answerable(query, usable, answers, reference_kept=reference_kept) for query in split.queries
        ),
    )


def _answerable(query: Query, usable: set[str], answers: set[str], *, reference_kept: bool) -> bool:
    right = answers.intersection(query.targets) - (set() if reference_kept else {query.reference})
    return query.reference in usable and (not query.targets or bool(right))


def check_image(path: Path, *, decode: bool = True) -> ImageState:
    """Look at the file at a path; with `decode` at every pixel, so that a file that breaks off is found."""
    try:
        if not path.is_file():
            return ImageState.MISSING
        if not path.stat().st_size:
            return ImageState.EMPTY
        if decode:
            Decoder(max_bytes=sys.maxsize).decode(path.read_bytes())
    except (OSError, InvalidArgument, MemoryError):
        return ImageState.UNDECODABLE
    return ImageState.GOOD


def check_images(
    paths: Iterable[Path],
    *,
    decode: bool = True,
    workers: int = 2,
    on_image: Callable[[int], None] = lambda done: None,
) -> dict[Path, ImageState]:
    """Look at the image at each path; `on_image` is called with the number that are done."""
    wanted = list(paths)
    states: dict[Path, ImageState] = {}
    # Decoding releases the interpreter lock, so threads are enough.
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(partial(check_image, decode=decode), wanted)
        for done, (path, state) in enumerate(zip(wanted, found, strict=True), start=1):
            states[path] = state
            on_image(done)
    return states


REPORT_COLUMNS = (
    "split",
    "queries",
    "gallery",
    "images",
    "missing",
    "empty",
    "undecodable",
    "empty texts",
    "answerable",
)
_NAMED = 5


def report_row(report: SplitReport) -> tuple[str, ...]:
    """The report in one line, under `REPORT_COLUMNS`."""
    counts = (
        report.queries,
        report.gallery,
        report.images,
        *map(len, (report.missing, report.empty, report.undecodable, report.empty_texts)),
    )
    return (report.name, *(f"{count:,}" for count in counts), f"{report.answerable_share:.1%}")


def report_notes(report: SplitReport) -> list[str]:
    """List what the counts leave open: the first names of each fault, and withheld targets."""
    lines = [
        f"{report.name}: {fault}: {', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}"
        for fault, names in (
            ("missing", report.missing),
            ("empty", report.empty),
            ("undecodable", report.undecodable),
        )
        if names
    ]
    if report.only_reference:
        lines.append(
            f"{report.name}: {report.only_reference:,} queries have no target but their own reference, which "
            "is no answer where the protocol drops it"
        )
    if report.without_targets:
        lines.append(
            f"{report.name}: the targets of {report.without_targets:,} queries are withheld; "
            "they count as answerable when their reference can be read"
        )
    return lines


def report_document(dataset: str, reports: Sequence[SplitReport]) -> dict[str, object]:
    """The reports as JSON: counts, and the names behind them."""
    return {
        "dataset": dataset,
        "complete": all(report.complete for report in reports),
        "splits": [
            {
                "split": report.name,
                "queries": report.queries,
                "gallery": report.gallery,
                "images": report.images,
                "missing": report.missing,
                "empty": report.empty,
                "undecodable": report.undecodable,
                "queries_with_empty_text": report.empty_texts,
                "queries_without_targets": report.without_targets,
                "queries_of_their_own_reference": report.only_reference,
                "answerable": report.answerable,
                "answerable_share": report.answerable_share,
            }
            for report in reports
        ],
    }
