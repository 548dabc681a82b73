"""Where a ledger is kept."""

from __future__ import annotations

from pathlib import Path

from indexer.ledger_path import ledger_path


def test_each_catalog_of_each_store_has_its_own() -> None:
    data = Path("data")
    assert ledger_path("edge:///a%20b", "shop", data) == Path("/a b/ledgers/shop.sqlite")
    assert ledger_path("qdrant://host:6334", "shop", data) == Path("data/ledgers/host_6334/shop.sqlite")
    assert ledger_path("qdrants://../x:1", "shop", data) != ledger_path("qdrant://x:1", "shop", data)
