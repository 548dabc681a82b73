"""The engine's handle of one open shard: its errors, changes under the write lock, the switch to another.

Everything here blocks. Changes come from one thread, reads of `engine` from any."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import numpy as np
import qdrant_edge as edge

from vector_store.codec import StoredPoints
from vector_store.edge.config import field_indexes, shard_config
from vector_store.edge.files import copy_shard
from vector_store.edge.locks import WriteLock
from vector_store.errors import StoreError, StoreLockedError, StoreUnavailableError, damaged
from vector_store.exact_floats import restored_document
from vector_store.types import VersionSpec


@contextmanager
def engine_errors(act: str) -> Iterator[None]:
    """Run engine calls; `act` says what was being done ('open catalog ...'), for the message."""
    try:
        yield
    except StoreError:
        raise
    except BaseException as error:
        # A panic of the engine is no `Exception`; without this it would pass every handler above.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "WouldBlock" in text:
            raise StoreLockedError(
                f"cannot {act}: another process has its files open; stop that process, or ask the search "
                "service that owns the store"
            ) from error
        raise StoreUnavailableError(f"cannot {act}: {text}") from error


def settle(path: Path, write_lock: WriteLock, name: str) -> None:
    """Open a shard that was changed, and close it: the engine ends only so what it left for the next opening.

    From then on opening and closing changes none of its files. Blocks.
    """
    with write_lock.held(f"close {name}"), engine_errors(f"close {name}"):
        edge.EdgeShard.load(str(path)).close()


# Small, because the engine keeps the interpreter lock for each.
_PAGE = 128


def copy_points(ids: Iterable[str], source: edge.EdgeShard, target: edge.EdgeShard) -> None:
    """Make `target` hold of the engine ids `ids` exactly what `source` holds. Blocks.

    Vectors are stored with length one and the engine leaves such vectors as they are, so they are equal to
    the last bit.
    """
    for page in _pages(sorted(ids)):
        present = source.retrieve(page, True, True)
        if present:
            points = [
                edge.Point(
                    record.id, cast("list[float]", record.vector), restored_document(record.payload or {})
                )
                for record in present
            ]
            target.update(edge.UpdateOperation.upsert_points(points))
        found = {str(record.id) for record in present}
        gone = [engine_id for engine_id in page if engine_id not in found]
        if gone:
            target.update(edge.UpdateOperation.delete_points(gone))


def matching_ids(shard: edge.EdgeShard, where: edge.Filter) -> list[str]:
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


# Points that may be brought over while changes wait: some tens of milliseconds.
_FEW = 256
_ROUNDS = 20

# Closing cannot be tried again, so it waits for the longest copy there can be.
_CLOSE_WAIT_S = 600.0


class OpenShard:
    """An open shard at `path`. `before_write` runs before each change, and what it raises forbids it."""

    def __init__(
        self,
        engine: edge.EdgeShard,
        path: Path,
        write_lock: WriteLock,
        name: str,
        before_write: Callable[[], None],
    ) -> None:
        self.engine = engine
        self.path = path
        self._write_lock = write_lock
        self._name = name
        self._before_write = before_write
        # Engine ids that were changed since the copy that is being indexed was made; None without one.
        self._touched: set[str] | None = None

    @staticmethod
    def create(
        path: Path, spec: VersionSpec, write_lock: WriteLock, name: str, before_write: Callable[[], None]
    ) -> OpenShard:
        """Create a shard with the indexes of the schema."""
        with engine_errors(f"create {name}"):
            engine = edge.EdgeShard.create(str(path), shard_config(spec))
            for operation in field_indexes(spec):
                engine.update(operation)
        return OpenShard(engine, path, write_lock, name, before_write)

    @staticmethod
    def load(path: Path, write_lock: WriteLock, name: str, before_write: Callable[[], None]) -> OpenShard:
        """Open the shard at `path`.

        Raises:
            StoreLockedError: another process has it open.
            StoreDamagedError: it cannot be read.
        """
        try:
            with write_lock.held(f"open {name}"), engine_errors(f"open {name}"):
                return OpenShard(edge.EdgeShard.load(str(path)), path, write_lock, name, before_write)
        except StoreLockedError:
            raise
        except StoreUnavailableError as error:
            raise damaged(name, str(error)) from error

    def upsert(self, points: StoredPoints) -> None:
        rows = zip(points.ids, np.ascontiguousarray(points.vectors), points.payloads, strict=True)
        batch = [edge.Point(point_id, vector, payload) for point_id, vector, payload in rows]
        self._change(points.ids, [edge.UpdateOperation.upsert_points(batch)])

    def set_payloads(self, documents: Mapping[str, dict[str, Any]]) -> None:
        # By filter: an id that was deleted meanwhile would be an error, which keeps back those behind it.
        operations = [
            edge.UpdateOperation.set_payload_by_filter(
                edge.Filter(must=[edge.HasIdCondition({engine_id})]), document
            )
            for engine_id, document in documents.items()
        ]
        self._change(documents, operations)

    def delete(self, ids: Sequence[str]) -> None:
        self._change(ids, [edge.UpdateOperation.delete_points(list(ids))])

    def delete_where(self, where: edge.Filter) -> None:
        self._change(
            lambda: matching_ids(self.engine, where), [edge.UpdateOperation.delete_points_by_filter(where)]
        )

    def flush(self) -> None:
        """Write everything to its final files."""
        with self._write_lock.held(f"write {self._name}"):
            self.engine.flush()

    def close(self) -> None:
        """Release the files."""
        with self._write_lock.held(f"close {self._name}", wait_s=_CLOSE_WAIT_S):
            self.engine.close()

    def copy_to(self, target: Path) -> None:
        """Copy the files as they are now; what is changed from now on is noted for `catch_up`."""
        with self._write_lock.held(f"copy {self._name}"):
            copy_shard(self.path, target)
            self._touched = set()

    def forget_changes(self) -> None:
        """Stop noting changes: the copy is not needed any more."""
        self._touched = None

    def catch_up(self, target: edge.EdgeShard) -> None:
        """Copy later changes, except the last few, to `target`, which was opened from the copy."""
        for _ in range(_ROUNDS):
            with self._write_lock.held(f"copy {self._name}"):
                touched = self._touched or set()
                if len(touched) <= _FEW:
                    return
                self._touched = set()
            copy_points(touched, self.engine, target)

    def switch(self, target: edge.EdgeShard, path: Path, commit: Callable[[], None]) -> edge.EdgeShard:
        """Copy the last changes to `target`, `commit()`, and use it from then on; return the old shard.

        Changes wait meanwhile. Where this fails nothing has changed; `commit` must not fail once what it
        does can be seen.
        """
        with self._write_lock.held(f"write {self._name}"):
            copy_points(self._touched or (), self.engine, target)
            target.flush()
            commit()
            old, self.engine, self.path = self.engine, target, path
            self._touched = None
        return old

    def _change(
        self, ids: Iterable[str] | Callable[[], Iterable[str]], operations: Sequence[edge.UpdateOperation]
    ) -> None:
        with self._write_lock.held(f"write {self._name}"):
            self._before_write()
            touched = self._touched
            if touched is not None:
                touched.update(ids() if callable(ids) else ids)
            for operation in operations:
                self.engine.update(operation)
