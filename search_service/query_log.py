"""A log of what was asked for and what was shown, for training: JSON Lines, rotated, without images.

A shop that notes the clicked item with the request id adds `clicked` to a line, and `cir adapt --clicks`
learns from it. The log never fails a search: a line that cannot be written is counted and left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from cir.search.v1 import search_pb2 as pb
from service_runtime.errors import StartupError
from service_runtime.interceptor import call_metadata
from service_runtime.logging import REQUEST_ID, get_logger

# Lines that may wait for a slow disk.
_MOST_WAITING = 10_000


class QueryLog:
    """Appends a line for each answered search to `path`; what is longer than `most_bytes` becomes `path`.1.

    Raises:
        StartupError: The file cannot be written.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._waiting = 0
        #: Lines that were left out since the start.
        self.lost = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab"):
                pass
        except OSError as error:
            raise StartupError(
                f"query_log {path} cannot be written ({error.strerror or error}); name another file"
            ) from error
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="query log")

    def write(self, request: pb.SearchRequest, response: pb.SearchResponse) -> None:
        """Have the line of an answered search written, without waiting for the disk."""
        if self._waiting >= _MOST_WAITING:
            self.lost += 1
            return
        self._waiting += 1
        line = json.dumps(line_of(request, response), ensure_ascii=False) + "\n"
        self._thread.submit(self._append, line.encode())

    def close(self) -> None:
        """Write what waits."""
        self._thread.shutdown()

    def _append(self, line: bytes) -> None:
        try:
            if self._path.exists() and self._path.stat().st_size + len(line) > self._most_bytes:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            with self._path.open("ab") as file:
                file.write(line)
        except OSError as error:
            if not self.lost:
                get_logger().warning("query log not written", path=str(self._path), problem=str(error))
            self.lost += 1
        finally:
            self._waiting -= 1


def line_of(request: pb.SearchRequest, response: pb.SearchResponse) -> Mapping[str, object]:
    """The line of one search; `reference` and `text` stand in it where one turn changes an item by a text."""
    turns = [
        {
            **({"item": turn.reference.item_id} if turn.reference.item_id else {}),
            **({"image": True} if turn.reference.WhichOneof("source") not in ("item_id", None) else {}),
            **({"text": turn.text} if turn.text else {}),
        }
        for turn in request.turns
    ]
    line: dict[str, object] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request_id": dict(call_metadata()).get(REQUEST_ID, ""),
        "version": response.explanation.version,
        "combiner": response.explanation.combiner,
        "turns": turns,
        "shown": [result.item.id for result in response.results],
    }
    if len(turns) == 1 and {"item", "text"} <= turns[0].keys():
        line |= {"reference": turns[0]["item"], "text": turns[0]["text"]}
    return line
