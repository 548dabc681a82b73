"""Which version is published, which were before it, and which are kept: pure decisions, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vector_store.catalogs import VersionState


@dataclass(frozen=True, slots=True)
class PublishHistory:
    """The published version ('' for none) and the earlier published ones, oldest first."""

    published: str = ""
    earlier: tuple[str, ...] = ()

    def publish(self, version: str) -> PublishHistory:
        """`version` becomes the published one; publishing it again changes nothing."""
        if version == self.published:
            return self
        earlier = tuple(v for v in (*self.earlier, self.published) if v and v != version)
        return PublishHistory(version, earlier)

    def rollback(self) -> PublishHistory:
        """The newest earlier version is published again and the present one leaves the history.

        Raises `LookupError` when there is nothing to go back to.
        """
        if not self.earlier:
            raise LookupError("no earlier version")
        return PublishHistory(self.earlier[-1], self.earlier[:-1])

    def state_of(self, version: str, *, complete: bool) -> VersionState:
        """The state of a version, given whether it was built to the end."""
        if version == self.published:
            return VersionState.PUBLISHED
        if version in self.earlier:
            return VersionState.RETIRED
        return VersionState.READY if complete else VersionState.BUILDING

    def forget(self, versions: Sequence[str]) -> PublishHistory:
        """The history without versions that were dropped."""
        return PublishHistory(self.published, tuple(v for v in self.earlier if v not in versions))


def versions_to_drop(history: PublishHistory, complete: Sequence[str], keep: int) -> list[str]:
    """Versions beyond the `keep` newest, oldest first.

    `complete` are the ids of the versions that are not being built. The published version never counts
    and never goes. What a rollback would return to is kept before anything else, then the newest.
    """
    others = sorted(version for version in complete if version != history.published)
    by_worth = sorted(others, reverse=True)
    if history.earlier and history.earlier[-1] in by_worth:
        by_worth.remove(history.earlier[-1])
        by_worth.insert(0, history.earlier[-1])
    kept = set(by_worth[:keep])
    return [version for version in others if version not in kept]
