"""Bringing changes of one open shard over to another that was copied from it before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast
from uuid import UUID

import qdrant_edge as edge

# Small, because the engine keeps the interpreter lock for each.
_PAGE = 128


def bring_over(ids: Iterable[str], source: edge.EdgeShard, target: edge.EdgeShard) -> None:
    """Make `target` hold of the engine ids `ids` exactly what `source` holds. Blocks.

    Vectors are stored with length one and the engine leaves such vectors as they are, so they are equal to
    the last bit.
    """
    for page in _pages(sorted(ids)):
        present = source.retrieve(page, True, True)
        if present:
            points = [
                edge.Point(record.id, cast("list[float]", record.vector), record.payload)
                for record in present
            ]
            target.update(edge.UpdateOperation.upsert_points(points))
        found = {str(record.id) for record in present}
        gone = [engine_id for engine_id in page if engine_id not in found]
        if gone:
            target.update(edge.UpdateOperation.delete_points(gone))


def ids_that_pass(shard: edge.EdgeShard, where: edge.Filter) -> list[str]:
    """The engine ids of all points that pass. Blocks."""
    found: list[str] = []
    offset = None
    while True:
        request = edge.ScrollRequest(
            offset=offset, limit=1_000, filter=where, with_payload=False, with_vector=False
        )
        points, offset = shard.scroll(request)
        found += [str(point.id) for point in points]
        if offset is None:
            return found


def _pages(ids: list[str]) -> Iterator[list[int | UUID | str]]:
    for start in range(0, len(ids), _PAGE):
        yield [*ids[start : start + _PAGE]]
