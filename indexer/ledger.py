"""The ledger: what each version of a catalog holds, item by item, as far as this indexer wrote it.

Kept features have a checksum each: vectors of a damaged ledger would be those of the next version. A sealed
copy, which nobody writes any more, has one of the whole file at its end.

A SQLite file in WAL mode, held by one process at a time. It is a memory, never the truth: the store is
asked first, a row says "written" only after the store has acknowledged the item, and a lost ledger costs
encoding, never items.

Rows are kept for each version that still exists, so that a rollback finds what it returns to. A version
is identified by name and time of creation: names come again after a catalog was dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote, urlsplit

import numpy as np
from numpy.typing import NDArray

from indexer.errors import LedgerDamaged, LedgerError
from indexer.items import ContentStamp
from service_runtime.files import sync_file
from vector_store.open_store import embedded_folder
from vector_store.types import VersionInfo

SCHEMA = 1
_SEALED = "sealed"
_LOCK_WAIT_S = 0.5
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE versions (key INTEGER PRIMARY KEY, name TEXT NOT NULL, created TEXT NOT NULL,
    UNIQUE (name, created));
CREATE TABLE items (version INTEGER NOT NULL, id TEXT NOT NULL, content TEXT NOT NULL, payload TEXT NOT NULL,
    location TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, state TEXT NOT NULL,
    change TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL, attempts INTEGER NOT NULL,
    PRIMARY KEY (version, id)) WITHOUT ROWID;
CREATE INDEX items_by_content ON items (version, content) WHERE content != '';
CREATE TABLE features (content TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, vector BLOB NOT NULL)
    WITHOUT ROWID;
"""
_PUT = """
INSERT INTO items VALUES (:version, :id, :content, :payload, :location, :size, :mtime_ns, :state, :change,
    :reason, :message, 1)
ON CONFLICT (version, id) DO UPDATE SET content = excluded.content, payload = excluded.payload,
    location = excluded.location, size = excluded.size, mtime_ns = excluded.mtime_ns, state = excluded.state,
    change = excluded.change, reason = excluded.reason, message = excluded.message,
    attempts = attempts + (excluded.state != 'written')
    WHERE excluded.state != 'rejected' OR state != 'written'
"""


class LedgerEntry(NamedTuple):
    """A row: `state` is "writing" before the store is asked, "written" after it acknowledged, or "rejected".

    `attempts` counts how often the item was given to the store, or rejected, for this version.
    """

    id: str
    content: str
    payload: str
    location: str
    size: int
    mtime_ns: int
    state: str
    change: str
    reason: str = ""
    message: str = ""
    attempts: int = 0

    @property
    def stamp(self) -> ContentStamp:
        """The image's identity."""
        return ContentStamp(self.content, self.size, self.mtime_ns)


class Ledger:
    """One catalog's ledger, open. All methods block and may be called from any thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, *, catalog: str, store: str) -> Self:
        """Open or make the ledger of `catalog` in the store at location `store`.

        Raises:
            LedgerError: another process has it, it belongs to another catalog or store, is of another
                schema, is damaged, or cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                path, timeout=_LOCK_WAIT_S, check_same_thread=False, isolation_level=None
            )
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(
                f"ledger {path} cannot be opened: {error}; name another with `ledger_path`"
            ) from error
        with _closed_on_error(path, connection):
            _prepare(connection, path, {"catalog": catalog, "store": store})
        return cls(path, connection)

    @classmethod
    def open_sealed(cls, path: Path) -> Self:
        """Open a copy that nobody writes any more, for reading, without locks.

        Raises:
            LedgerError: it is not there, is of another schema or damaged.
        """
        try:
            connection = sqlite3.connect(
                f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1",
                uri=True,
                check_same_thread=False,
                isolation_level=None,
            )
        except sqlite3.Error as error:
            raise _to_ledger_error(path, error) from error
        with _closed_on_error(path, connection):
            _check_sealed(connection, path)
            _check_digest(connection, path)
        return cls(path, connection)

    def copy_to(self, path: Path) -> None:
        """Write everything to one file at `path`, whole or not at all.

        Raises:
            LedgerError: the file cannot be written.
        """
        new = path.with_name(f".{path.name}.new")
        try:
            new.unlink(missing_ok=True)
            self.note(_SEALED, True)
            with self._lock:
                self._connection.execute("VACUUM INTO ?", (str(new),))
            self.note(_SEALED, None)
            _append_digest(new)
            sync_file(new)
            new.replace(path)
            sync_file(path.parent)
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(
                f"{path} cannot be written: {error}; free some space or make its folder writable, and run "
                "this again: nothing is embedded twice"
            ) from error

    def close(self) -> None:
        """Close the file and release its lock."""
        with self._lock:
            self._connection.close()

    def key(self, info: VersionInfo) -> int:
        """Return the number that stands for a version in this ledger."""
        identity = info.version, info.created.isoformat()
        with self._writing() as connection:
            connection.execute("INSERT OR IGNORE INTO versions (name, created) VALUES (?, ?)", identity)
            found = connection.execute("SELECT key FROM versions WHERE name = ? AND created = ?", identity)
            return int(found.fetchone()[0])

    def keep_versions(self, infos: Iterable[VersionInfo]) -> None:
        """Forget every version but these, and kept features that no row needs."""
        keys = [(self.key(info),) for info in infos]
        with self._writing() as connection:
            connection.execute("CREATE TEMP TABLE kept (key INTEGER PRIMARY KEY)")
            connection.executemany("INSERT INTO kept VALUES (?)", keys)
            connection.execute("DELETE FROM items WHERE version NOT IN kept")
            connection.execute("DELETE FROM versions WHERE key NOT IN kept")
            connection.execute("DROP TABLE kept")
        self.drop_idle_features()

    def drop_idle_features(self) -> None:
        """Forget kept features that no row needs."""
        with self._writing() as connection:
            connection.execute("DELETE FROM features WHERE content NOT IN (SELECT content FROM items)")

    def entry(self, version: int, item_id: str) -> LedgerEntry | None:
        """Return the row of an item."""
        rows = self._rows(f"{_SELECT} WHERE version = ? AND id = ?", version, item_id)
        return rows[0] if rows else None

    def with_content(self, version: int, content: str) -> str | None:
        """Return the lowest id among written items of equal bytes."""
        rows = self._rows(
            f"{_SELECT} WHERE version = ? AND content = ? AND content != '' AND state = 'written' "
            "ORDER BY id LIMIT 1",
            version,
            content,
        )
        return rows[0].id if rows else None

    def in_state(self, version: int, state: str) -> list[str]:
        """Return the ids of a version's rows in a state."""
        rows = self._query("SELECT id FROM items WHERE version = ? AND state = ?", version, state)
        return [row[0] for row in rows]

    def written(self, version: int) -> int:
        """Return the number of items that a version has been acknowledged to hold."""
        return int(
            self._query("SELECT count(*) FROM items WHERE version = ? AND state = 'written'", version)[0][0]
        )

    def put(self, version: int, entries: Sequence[LedgerEntry]) -> None:
        """Write rows, all or none."""
        with self._writing() as connection:
            connection.executemany(_PUT, [{"version": version, **entry._asdict()} for entry in entries])

    def remove(self, version: int, ids: Iterable[str]) -> None:
        """Forget items of a version."""
        with self._writing() as connection:
            connection.executemany(
                "DELETE FROM items WHERE version = ? AND id = ?", [(version, item_id) for item_id in ids]
            )

    def start_seeing(self) -> None:
        """Forget which ids this run has seen in its source."""
        with self._writing() as connection:
            connection.execute("DROP TABLE IF EXISTS temp.seen")
            connection.execute("CREATE TEMP TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def see(self, ids: Iterable[str]) -> None:
        """Note ids that the source has."""
        with self._writing() as connection:
            connection.executemany("INSERT OR IGNORE INTO seen VALUES (?)", [(item_id,) for item_id in ids])

    def has_seen(self, ids: Sequence[str]) -> list[bool]:
        """Return for each of `ids` if this run's source has it."""
        return [bool(self._query("SELECT 1 FROM seen WHERE id = ?", item_id)) for item_id in ids]

    def unseen(self, version: int) -> list[str]:
        """Return ids that a version holds and this run's source does not."""
        rows = self._query(
            "SELECT id FROM items WHERE version = ? AND state != 'rejected' AND id NOT IN seen", version
        )
        return [row[0] for row in rows]

    def keep_features(self, fingerprint: str, rows: Iterable[tuple[str, NDArray[np.float32]]]) -> None:
        """Keep features by the hash of the bytes they were made from."""
        with self._writing() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO features VALUES (?, ?, ?)",
                [(content, fingerprint, _pack(features)) for content, features in rows],
            )

    def kept_features(self, fingerprint: str, content: str) -> NDArray[np.float32] | None:
        """Return features of a model for an image's bytes, float32 (d,); None without undamaged ones."""
        rows = self._query(
            "SELECT vector FROM features WHERE content = ? AND fingerprint = ?", content, fingerprint
        )
        return _unpack(rows[0][0]) if rows else None

    def take_rejects(self, version: int, base: int) -> None:
        """Remember the rejects of a version that is dropped for the one it was built upon."""
        columns = ", ".join(LedgerEntry._fields)
        with self._writing() as connection:
            connection.execute(
                f"INSERT OR IGNORE INTO items (version, {columns}) SELECT ?, {columns} FROM items "  # noqa: S608
                "WHERE version = ? AND state = 'rejected'",
                (base, version),
            )

    def note(self, name: str, value: object) -> None:
        """Remember a JSON value under a name; None forgets it."""
        with self._writing() as connection:
            connection.execute("DELETE FROM meta WHERE name = ?", (name,))
            if value is not None:
                connection.execute("INSERT INTO meta VALUES (?, ?)", (name, json.dumps(value)))

    def noted(self, name: str) -> Any:
        """Return what was remembered; None if nothing was."""
        rows = self._query("SELECT value FROM meta WHERE name = ?", name)
        return json.loads(rows[0][0]) if rows else None

    def _rows(self, statement: str, *values: object) -> list[LedgerEntry]:
        return [LedgerEntry(*row) for row in self._query(statement, *values)]

    def _query(self, statement: str, *values: object) -> list[Any]:
        with self._lock, _errors_translated(self.path):
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _errors_translated(self.path):
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            except BaseException:
                if self._connection.in_transaction:  # a full disk has rolled back by itself
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


_SELECT = f"SELECT {', '.join(LedgerEntry._fields)} FROM items"  # noqa: S608


@contextmanager
def _closed_on_error(path: Path, connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        connection.close()
        raise _to_ledger_error(path, error) from error
    except BaseException:
        connection.close()
        raise


def _prepare(connection: sqlite3.Connection, path: Path, identity: dict[str, str]) -> None:
    # Exclusive: the lock is taken with the first access and held until the connection is closed.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN IMMEDIATE")
    schema = connection.execute("PRAGMA user_version").fetchone()[0]
    if schema == 0 and not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        for statement in filter(str.strip, _TABLES.split(";")):
            connection.execute(statement)
        connection.executemany("INSERT INTO meta VALUES (?, ?)", list(identity.items()))
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
    elif schema != SCHEMA:
        raise LedgerError(
            f"ledger {path} has schema {schema}, expected {SCHEMA}; rebuild it from the published version "
            "with `rebuild_ledger`, or name another with `ledger_path`"
        )
    connection.execute("COMMIT")
    damage = _damage(connection)
    if damage != "ok":
        raise _damaged(path, damage)
    for name, expected in identity.items():
        found = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        if found is None or found[0] != expected:
            raise LedgerError(
                f"ledger {path} belongs to {name} {found and found[0]!r}, not to {expected!r}; "
                "name another file with `ledger_path`"
            )


def _damage(connection: sqlite3.Connection) -> str:
    """Return what SQLite finds wrong first, or "ok". It quotes what it found, which need not be text."""
    try:
        found: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except UnicodeDecodeError:
        return "names in it are not text"
    return found


def _check_sealed(connection: sqlite3.Connection, path: Path) -> None:
    schema = connection.execute("PRAGMA user_version").fetchone()[0]
    if schema != SCHEMA:
        raise LedgerError(f"{path} has schema {schema}, expected {SCHEMA}")
    damage = _damage(connection)
    if damage != "ok":
        raise LedgerError(f"{path} is damaged ({damage})")


_DIGEST_MARK = b"cir-sealed-sha256"


def _append_digest(path: Path) -> None:
    """End a file with a digest of all that is before; SQLite reads no further than its own pages."""
    with path.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        file.seek(0, os.SEEK_END)
        file.write(_DIGEST_MARK + digest)


def _check_digest(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `LedgerError` where a sealed file is not what it was; those of older programs have no digest."""
    expected = connection.execute("SELECT 1 FROM meta WHERE name = ?", (_SEALED,)).fetchone() is not None
    mark = len(_DIGEST_MARK)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            left = max(0, file.seek(0, os.SEEK_END) - mark - digest.digest_size)
            file.seek(left)
            end = file.read()
            file.seek(0)
            while left and (chunk := file.read(min(left, 1 << 20))):
                digest.update(chunk)
                left -= len(chunk)
    except OSError as error:
        raise LedgerError(f"{path} cannot be read: {error}") from error
    sealed = end[:mark] == _DIGEST_MARK
    if (expected or sealed) and end != _DIGEST_MARK + digest.digest():
        raise LedgerError(f"{path} is damaged (its checksum is not that of its content)")


def _pack(features: NDArray[np.float32]) -> bytes:
    """Values, and a byte and their CRC-32 behind them, so that no number of values alone has this length."""
    values = features.astype("<f4").tobytes()
    return values + b"\x01" + zlib.crc32(values).to_bytes(4, "little")


def _unpack(packed: bytes) -> NDArray[np.float32] | None:
    values = packed
    if len(packed) % 4:  # else kept by an older program, without a checksum
        values = packed[:-5]
        if packed != values + b"\x01" + zlib.crc32(values).to_bytes(4, "little"):
            return None
    return np.frombuffer(values, dtype="<f4").astype(np.float32)


@contextmanager
def _errors_translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _to_ledger_error(path, error) from error


def _to_ledger_error(path: Path, error: sqlite3.Error) -> LedgerError:
    text = str(error)
    if "locked" in text:
        return LedgerError(
            f"ledger {path} is in use by another run of the indexer; wait for it, or stop it and try again"
        )
    if isinstance(error, sqlite3.OperationalError):
        return LedgerError(
            f"ledger {path} cannot be read or written: {text}; free some space or make it writable, or name "
            "another file with `ledger_path`. Nothing was published; the next run goes on from here"
        )
    return _damaged(path, text)


def _damaged(path: Path, problem: str) -> LedgerDamaged:
    return LedgerDamaged(
        f"ledger {path} is damaged ({problem}); the catalog is not affected. `rebuild_ledger` makes a new "
        "one from the published version; without the file, all images are encoded again"
    )


def ledger_path(store_url: str, catalog: str, data: Path) -> Path:
    """The ledger of a catalog: inside an embedded store's folder, else below the data directory `data`, in a
    folder named after the server."""
    folder = embedded_folder(store_url)
    if folder is not None:
        return folder / "ledgers" / f"{catalog}.sqlite"
    server = re.sub(r"[^a-z0-9.-]", "_", urlsplit(store_url).netloc.rpartition("@")[2].lower())
    return data / "ledgers" / (server or "store") / f"{catalog}.sqlite"
