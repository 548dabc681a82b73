"""The application's parts as the settings describe them: the store, and access to embedder and combiner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cir.channel import new_key
from search_service.application import SearchApplication
from search_service.settings import SearchSettings
from search_service.upstreams import load_upstream_access
from service_runtime.errors import StartupError
from tests.service_runtime.certificates import Authority
from vector_store.edge import EdgeOptions
from vector_store.versions import QUANTIZE_ABOVE_BYTES


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `open_store` was called with."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr("search_service.application.open_store", lambda url, **given: calls.append(given))
    return calls


def test_the_embedded_store_has_its_own_defaults(tmp_path: Path, opened: list[dict[str, Any]]) -> None:
    SearchApplication(SearchSettings(store=f"edge://{tmp_path}"))
    [given] = opened
    assert EdgeOptions() in given["options"]
    assert given["quantize_above_bytes"] == QUANTIZE_ABOVE_BYTES


def test_settings_reach_the_embedded_store(
    tmp_path: Path, opened: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIR_SEARCH_STORE_INDEX_ABOVE_ITEMS", "5000")
    monkeypatch.setenv("CIR_SEARCH_STORE_MIN_FREE_BYTES", "1000")
    monkeypatch.setenv("CIR_SEARCH_STORE_QUANTIZE_ABOVE_BYTES", "2000")
    SearchApplication(SearchSettings(store=f"edge://{tmp_path}"))
    [given] = opened
    assert EdgeOptions(index_above_items=5000, min_free_bytes=1000) in given["options"]
    assert given["quantize_above_bytes"] == 2000


def test_nothing_is_encrypted_or_sent_unless_set() -> None:
    access = load_upstream_access(SearchSettings())
    assert (access.tls, access.metadata) == (None, ())


def test_all_of_it(tmp_path: Path) -> None:
    authority, key = Authority(tmp_path, "ca"), new_key()
    own = authority.issue("search")
    access = load_upstream_access(
        SearchSettings(
            upstream_tls=True,
            upstream_ca=authority.file,
            upstream_certificate=own.certificate,
            upstream_key=own.key,
            upstream_api_key=key,
        )
    )
    assert access.tls == authority.client(own)
    assert access.metadata == (("x-api-key", key),)
    assert key not in repr(access)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"upstream_ca": "ca.pem"}, "set upstream_tls as well"),
        ({"upstream_tls": True, "upstream_ca": "none.pem"}, "upstream_ca .* cannot be read"),
        ({"upstream_tls": True, "upstream_certificate": "ca-a.crt"}, "go together"),
        (
            {"upstream_tls": True, "upstream_certificate": "ca-a.crt", "upstream_key": "ca-b.key"},
            "upstream_key .* is not the private key of upstream_certificate",
        ),
        ({"upstream_api_key": "line\nbreak"}, "upstream_api_key: an API key has printable"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], words: str
) -> None:
    authority = Authority(tmp_path, "ca")
    authority.issue("a")
    authority.issue("b")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartupError, match=words) as raised:
        load_upstream_access(SearchSettings(**values))
    assert "\n" not in str(raised.value)
