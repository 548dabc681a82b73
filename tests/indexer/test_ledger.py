"""The ledger by itself."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from indexer.errors import LedgerError
from indexer.ledger import Ledger, LedgerEntry, ledger_path
from vector_store.types import VersionInfo, VersionSpec, VersionState

INFO = VersionInfo(
    "c",
    "v0001",
    VersionState.BUILDING,
    VersionSpec(2, "f"),
    points=0,
    created=datetime(2026, 1, 1, tzinfo=UTC),
)


def entry(item_id: str, state: str = "written", content: str = "") -> LedgerEntry:
    return LedgerEntry(item_id, content, "p", "/x", 1, 2, state, "new")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "new" / "l.sqlite", catalog="c", store="s")
    yield opened
    opened.close()


def test_versions_of_one_name_are_told_apart_by_their_creation(ledger: Ledger) -> None:
    later = dataclasses.replace(INFO, created=datetime(2026, 1, 2, tzinfo=UTC))
    first, second = ledger.key(INFO), ledger.key(later)
    assert first != second
    assert ledger.key(INFO) == first
    ledger.put(first, [entry("a", content="1")])
    ledger.put(second, [entry("a", content="2")])
    ledger.keep_features("f", [("1", np.ones(2, np.float32)), ("2", np.zeros(2, np.float32))])
    ledger.keep_versions([later])
    assert ledger.entry(first, "a") is None
    assert ledger.entry(second, "a") is not None
    assert ledger.kept_features("f", "1") is None
    assert ledger.kept_features("other", "2") is None
    np.testing.assert_array_equal(ledger.kept_features("f", "2"), np.zeros(2, np.float32))


def test_an_item_is_written_only_once_it_was_acknowledged(ledger: Ledger) -> None:
    key = ledger.key(INFO)
    ledger.put(key, [entry("a", "writing"), entry("b", "writing")])
    assert (ledger.written(key), ledger.in_state(key, "writing")) == (0, ["a", "b"])
    ledger.put(key, [entry("a", content="x")])
    assert ledger.written(key) == 1
    assert ledger.with_content(key, "x") == "a"
    assert ledger.with_content(key, "") is None
    ledger.put(key, [entry("a", "rejected"), entry("b", "rejected")])
    assert ledger.in_state(key, "rejected") == ["b"]
    row = ledger.entry(key, "b")
    assert row is not None
    assert row.attempts == 2


def test_a_failed_write_leaves_nothing_behind(ledger: Ledger) -> None:
    key = ledger.key(INFO)
    broken = entry("b")._replace(content=None)  # type: ignore[arg-type]
    with pytest.raises(LedgerError):
        ledger.put(key, [entry("a"), broken])
    assert ledger.entry(key, "a") is None


def test_what_was_seen(ledger: Ledger) -> None:
    key = ledger.key(INFO)
    ledger.put(key, [entry("a"), entry("b"), entry("c", "rejected")])
    ledger.start_seeing()
    ledger.see(["a", "x", "a"])
    assert ledger.unseen(key) == ["b"]
    assert ledger.has_seen(["a", "b", "x"]) == [True, False, True]


def test_notes(ledger: Ledger) -> None:
    assert ledger.noted("x") is None
    ledger.note("x", {"a": [1]})
    assert ledger.noted("x") == {"a": [1]}
    ledger.note("x", None)
    assert ledger.noted("x") is None


def test_a_full_disk_is_told(ledger: Ledger) -> None:
    key = ledger.key(INFO)
    ledger._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(LedgerError, match="free some space"):
        ledger.put(key, [entry("x" * 400 + str(number)) for number in range(500)])
    assert ledger.written(key) == 0


def test_other_schemas_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    Ledger.open(path, catalog="c", store="s").close()
    with pytest.raises(LedgerError, match="belongs to store 's'"):
        Ledger.open(path, catalog="c", store="t")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError, match="schema 99"):
        Ledger.open(path, catalog="c", store="s")
    with pytest.raises(LedgerError, match="`ledger_path`"):
        Ledger.open(tmp_path / "l.sqlite" / "x", catalog="c", store="s")


def test_each_catalog_of_each_store_has_its_own() -> None:
    data = Path("data")
    assert ledger_path("edge:///a%20b", "shop", data) == Path("/a b/ledgers/shop.sqlite")
    assert ledger_path("qdrant://host:6334", "shop", data) == Path("data/ledgers/host_6334/shop.sqlite")
    assert ledger_path("qdrants://../x:1", "shop", data) != ledger_path("qdrant://x:1", "shop", data)
