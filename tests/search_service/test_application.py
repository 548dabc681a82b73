"""What the settings make of the store that the service opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search_service.application import SearchApplication
from search_service.settings import SearchSettings
from vector_store.auto_quantization import QUANTIZE_ABOVE_BYTES
from vector_store.edge_options import EdgeOptions


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `open_store` was called with."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr("search_service.application.open_store", lambda url, **given: calls.append(given))
    return calls


def test_the_embedded_store_has_its_own_defaults(tmp_path: Path, opened: list[dict[str, Any]]) -> None:
    SearchApplication(SearchSettings(store=f"edge://{tmp_path}"))
    [given] = opened
    assert (given["edge"], given["quantize_above_bytes"]) == (EdgeOptions(), QUANTIZE_ABOVE_BYTES)


def test_settings_reach_the_embedded_store(
    tmp_path: Path, opened: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIR_SEARCH_STORE_INDEX_ABOVE_ITEMS", "5000")
    monkeypatch.setenv("CIR_SEARCH_STORE_MIN_FREE_BYTES", "1000")
    monkeypatch.setenv("CIR_SEARCH_STORE_QUANTIZE_ABOVE_BYTES", "2000")
    SearchApplication(SearchSettings(store=f"edge://{tmp_path}"))
    [given] = opened
    assert given["edge"] == EdgeOptions(index_above_items=5000, min_free_bytes=1000)
    assert given["quantize_above_bytes"] == 2000
