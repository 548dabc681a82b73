"""Queries of a click log: what customers asked for, and what they took."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from combiner_training.adapt.columns import AdaptError
from combiner_training.datasets.base import DatasetError, Query, as_list, as_text, read_rows

_MOST_CHARACTERS = 1_000
_MOST_UNKNOWN = 0.5
_NO_CLICK = "without a reference item, a text or a click"
#: Times that a query is repeated at the most, however often it was clicked.
MOST_TIMES = 4


@dataclass(frozen=True, slots=True)
class Clicks:
    """Queries of a log, those that were clicked more often several times; `counts` tells what became of its
    lines."""

    queries: tuple[Query, ...]
    counts: Mapping[str, int]


def read_clicks(path: Path, names: Sequence[str], kept: Collection[str]) -> Clicks:
    """Read a log in JSON Lines or Parquet: `reference`, `text`, `clicked` and, if there are any, `shown` ids.

    Rows that teach nothing are left out and counted: those of a query log that nobody clicked or that have
    no item as their reference, those with ids that the catalog does not have, clicks on the reference itself,
    and clicks on items that are `kept` for the test.

    Raises:
        AdaptError: A row cannot be read, or most rows have ids that the catalog does not have.
    """
    known = set(names)
    counts: Counter[str] = Counter()
    clicked: Counter[tuple[str, str, str]] = Counter()
    shown: dict[tuple[str, str, str], dict[str, None]] = {}
    unknown = ""
    try:
        for where, row in read_rows(path):
            counts["rows"] += 1
            if not {"reference", "text", "clicked"} <= row.keys():
                counts[_NO_CLICK] += 1
                continue
            reference, text, chosen = (
                as_text(row[name], f"{where}, {name}") for name in ("reference", "text", "clicked")
            )
            others = [
                as_text(one, f"{where}, shown") for one in as_list(row.get("shown", []), f"{where}, shown")
            ]
            missing = [one for one in (reference, chosen) if one not in known]
            if missing:
                counts["with unknown ids"] += 1
                unknown = unknown or f"{missing[0]!r} in {where}"
            elif not text.strip() or len(text) > _MOST_CHARACTERS:
                counts[f"without a text of 1 to {_MOST_CHARACTERS:,} characters"] += 1
            elif chosen == reference:
                counts["that clicked the reference itself"] += 1
            elif chosen in kept:
                counts["kept for the test"] += 1
            else:
                key = (reference, " ".join(text.split()), chosen)
                clicked[key] += 1
                shown.setdefault(key, {}).update(dict.fromkeys(one for one in others if one in known))
    except DatasetError as error:
        raise AdaptError(str(error)) from error
    if counts["with unknown ids"] > _MOST_UNKNOWN * (counts["rows"] - counts[_NO_CLICK]) or not clicked:
        raise AdaptError(
            f"{counts['with unknown ids']:,} of {counts['rows']:,} rows of {path} have ids that the catalog "
            f"does not have{f' (first {unknown})' if unknown else ''}, {counts[_NO_CLICK]:,} no click; "
            "give a log of this catalog's clicks"
        )
    queries = []
    for number, (key, times) in enumerate(clicked.items(), start=1):
        reference, text, chosen = key
        group = tuple(dict.fromkeys((reference, chosen, *shown[key])))
        for copy in range(min(MOST_TIMES, 1 + int(math.log2(times)))):
            queries.append(Query(f"click-{number}-{copy}", reference, (text,), (chosen,), group))
    counts["queries"] = len(queries)
    return Clicks(tuple(queries), {what: count for what, count in counts.items() if count})
