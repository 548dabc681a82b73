"""Names of versions, and the decisions about what is published and kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_store.types import VersionState
from vector_store.versions import (
    PublishHistory,
    is_version_name,
    next_version,
    version_number,
    versions_to_drop,
)


def test_version_names() -> None:
    assert next_version([]) == "v0001"
    assert next_version(["v0002", "v0010", "v0003", "other"]) == "v0011"
    assert [is_version_name(n) for n in ("v0001", "v1", "v00010", "V0001", "")] == [True] + [False] * 4


@given(st.sets(st.integers(1, 10**17), min_size=1))
def test_names_follow_their_numbers(numbers: set[int]) -> None:
    names = [f"v{number:04d}" for number in sorted(numbers)]
    assert all(map(is_version_name, names))
    assert sorted(names, key=version_number) == names
    assert next_version(names) == f"v{max(numbers) + 1:04d}"


def test_publish_and_rollback() -> None:
    history = PublishHistory().publish("v1").publish("v2").publish("v3")
    assert history == PublishHistory("v3", ("v1", "v2"))
    assert history.publish("v3") is history
    assert history.publish("v1") == PublishHistory("v1", ("v2", "v3"))
    assert history.rollback() == PublishHistory("v2", ("v1",))
    assert history.forget(["v2"]).rollback() == PublishHistory("v1")
    with pytest.raises(LookupError):
        PublishHistory("v1").rollback()


def test_states() -> None:
    history = PublishHistory("v3", ("v1",))
    states = [
        history.state_of(v, complete=c) for v, c in [("v3", True), ("v1", True), ("v2", True), ("v4", False)]
    ]
    assert states == [VersionState.PUBLISHED, VersionState.RETIRED, VersionState.READY, VersionState.BUILDING]


def test_the_way_back_is_kept_first() -> None:
    history = PublishHistory("v5", ("v1",))
    assert versions_to_drop(history, ["v1", "v2", "v3", "v4", "v5"], 1) == ["v2", "v3", "v4"]
    assert versions_to_drop(history, ["v1", "v2", "v3", "v4", "v5"], 2) == ["v2", "v3"]
    assert versions_to_drop(history, ["v1", "v2", "v3", "v4", "v5"], 0) == ["v1", "v2", "v3", "v4"]
    assert versions_to_drop(history, ["v5"], 0) == []


@given(
    published=st.lists(st.integers(1, 8), min_size=1, max_size=12),
    complete=st.sets(st.integers(1, 8)),
    keep=st.integers(0, 9),
)
def test_what_is_kept(published: list[int], complete: set[int], keep: int) -> None:
    history = PublishHistory()
    for number in published:
        history = history.publish(f"v{number}")
    versions = sorted({f"v{n}" for n in complete} | {history.published, *history.earlier})
    dropped = versions_to_drop(history, versions, keep)
    left = [v for v in versions if v not in dropped]
    assert history.published in left
    assert len(left) - 1 == min(keep, len(versions) - 1)
    if keep and history.earlier:
        assert history.earlier[-1] in left
    assert history.published not in history.earlier
    assert len(set(history.earlier)) == len(history.earlier)
