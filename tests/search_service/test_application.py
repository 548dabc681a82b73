"""The application's parts as the settings describe them: the store, and access to embedder and combiner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.rpc import status_pb2

from cir.channel import new_key
from cir.common.v1 import errors_pb2
from search_service.application import SearchApplication
from search_service.settings import SearchSettings
from search_service.store import to_service_error
from search_service.upstreams import load_upstream_access
from service_runtime.errors import ServiceError, StartupError
from tests.service_runtime.certificates import Authority
from vector_store.edge import EdgeOptions
from vector_store.errors import damaged
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
    monkeypatch.setenv("CIR_SEARCH_STORE_VERIFY_OPEN_SECONDS", "0.5")
    monkeypatch.setenv("CIR_SEARCH_STORE_VERIFY_BYTES_PER_SECOND", "3000")
    SearchApplication(SearchSettings(store=f"edge://{tmp_path}"))
    [given] = opened
    expected = EdgeOptions(
        index_above_items=5000, min_free_bytes=1000, verify_open_s=0.5, verify_bytes_per_s=3000
    )
    assert expected in given["options"]
    assert given["quantize_above_bytes"] == 2000


def test_damage_is_shown_until_a_version_opens_well(tmp_path: Path, opened: list[dict[str, Any]]) -> None:
    application = SearchApplication(SearchSettings(store=f"edge://{tmp_path}"))
    (options,) = (given for given in opened[0]["options"] if isinstance(given, EdgeOptions))

    def shown() -> list[str]:
        (metric,) = application._damaged.collect()
        return [sample.labels["catalog"] for sample in metric.samples]

    options.on_damage("shop", False)
    assert shown() == []
    options.on_damage("shop", True)
    options.on_damage("other", True)
    assert shown() == ["shop", "other"]
    options.on_damage("shop", False)
    assert shown() == ["other"]


def test_damage_is_unavailable_and_no_reason_to_wait() -> None:
    refusal = to_service_error(damaged("version v0001 of catalog 'shop'", "/x is missing"))
    status = {detail.type_url.rpartition("/")[2] for detail in details_of(refusal)}
    assert refusal.reason == errors_pb2.STORE_UNAVAILABLE
    assert status == {"google.rpc.ErrorInfo"}


def details_of(refusal: ServiceError) -> list[Any]:
    trailing = dict(refusal.status().trailing_metadata or ())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    return list(status.details)


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
