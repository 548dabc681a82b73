"""Reports on splits, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence

from combiner_service.datasets.check import SplitReport

COLUMNS = (
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


def table_row(report: SplitReport) -> tuple[str, ...]:
    """The report in one line, under `COLUMNS`."""
    counts = (
        report.queries,
        report.gallery,
        report.images,
        *map(len, (report.missing, report.empty, report.undecodable, report.empty_texts)),
    )
    return (report.name, *(f"{count:,}" for count in counts), f"{report.answerable_share:.1%}")


def notes(report: SplitReport) -> list[str]:
    """What the counts leave open: the first names of each fault, and withheld targets."""
    lines = [
        f"{report.name}: {fault}: {', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}"
        for fault, names in (
            ("missing", report.missing),
            ("empty", report.empty),
            ("undecodable", report.undecodable),
        )
        if names
    ]
    if report.without_targets:
        lines.append(
            f"{report.name}: the targets of {report.without_targets:,} queries are withheld; "
            "they count as answerable when their reference can be read"
        )
    return lines


def document(dataset: str, reports: Sequence[SplitReport]) -> dict[str, object]:
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
                "answerable": report.answerable,
                "answerable_share": report.answerable_share,
            }
            for report in reports
        ],
    }
