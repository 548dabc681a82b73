"""How many hits to ask an engine for, so that pages are stable and groups are filled."""

from __future__ import annotations

import math

from vector_store.contract import SearchOptions
from vector_store.errors import InvalidQuery

MAX_WINDOW = 10_000
"""Deepest `offset + limit` of a query; `scroll` reads everything."""

MAX_FETCH = 16_384
"""Most hits that one query ever asks an engine for."""

MAX_DIVERSE = 2_048
"""Most items that are put into an order of diversity; what follows keeps its order by score."""

DEFAULT_EF = 128
MAX_EF = 65_536
MAX_OVERSAMPLING = 16.0


def check_window(limit: int, offset: int) -> int:
    """`offset + limit`, or `InvalidQuery`."""
    if limit < 0:
        raise InvalidQuery(f"limit {limit} is negative", field="limit")
    if offset < 0:
        raise InvalidQuery(f"offset {offset} is negative", field="offset")
    if offset + limit > MAX_WINDOW:
        raise InvalidQuery(
            f"offset + limit is {offset + limit}, more than {MAX_WINDOW}; scroll to read everything",
            field="offset",
        )
    return offset + limit


def check_options(options: SearchOptions) -> None:
    """Raise `InvalidQuery` for a number outside its range."""
    if not 0.0 <= options.diversity <= 1.0:
        raise InvalidQuery(f"diversity {options.diversity}: expected 0 to 1", field="diversity")
    if options.group_size < 1:
        raise InvalidQuery(f"group_size {options.group_size}: expected 1 or more", field="group_size")
    if options.ef is not None and not 1 <= options.ef <= MAX_EF:
        raise InvalidQuery(f"ef {options.ef}: expected 1 to {MAX_EF}", field="ef")
    if not 1.0 <= options.oversampling <= MAX_OVERSAMPLING:
        raise InvalidQuery(
            f"oversampling {options.oversampling}: expected 1 to {MAX_OVERSAMPLING:.0f}", field="oversampling"
        )
    if options.score_threshold is not None and not math.isfinite(options.score_threshold):
        raise InvalidQuery(
            f"score_threshold {options.score_threshold} is not finite", field="score_threshold"
        )


def first_fetch(window: int, options: SearchOptions) -> int:
    """Hits to ask for first.

    One more than the window shows whether a tie crosses its end. Diversity and groups choose from a pool
    of a size that steps in powers of two, so that neighbouring pages choose from the same pool.
    """
    if options.diversity > 0.0 or options.group_by:
        return min(max(256, power_of_two(2 * window)), MAX_FETCH)
    return window + 1


def search_ef(fetch: int, options: SearchOptions) -> int:
    """Candidates that the graph search keeps.

    A graph search that returns k hits keeps at least k candidates, so its first hits would change from
    page to page with k; a step in powers of two keeps them the same.
    """
    return max(options.ef or DEFAULT_EF, power_of_two(fetch))


def power_of_two(number: int) -> int:
    """The smallest power of two that is not below `number`."""
    return 1 << max(number - 1, 0).bit_length()
