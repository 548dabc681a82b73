"""The embedded engine, Qdrant Edge: shards in this process, below one folder. Its options need no engine."""

from __future__ import annotations

from dataclasses import dataclass

MIN_FREE_BYTES = 256 << 20
"""Space that an embedded store leaves free. The engine writes into mapped, sparse files: where no block is
left for one of them the operating system ends the process (SIGBUS), so a full disk must not be reached."""


@dataclass(frozen=True, slots=True)
class EdgeOptions:
    """`min_free_bytes` is the disk space that writes leave free.

    When queries of an open version compare more than `index_above_items` items one by one because they were
    written online, these are indexed in the background; 0 never does that. A failed attempt is repeated
    after `retry_s` seconds, doubled with each failure up to `max_retry_s`.
    """

    min_free_bytes: int = MIN_FREE_BYTES
    index_above_items: int = 10_000
    retry_s: float = 60.0
    max_retry_s: float = 3_600.0
