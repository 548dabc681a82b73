"""The server engine, Qdrant: one server or a cluster, over gRPC. Its options need no client."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QdrantOptions:
    """Defaults for versions and for waiting; counts of 0 leave the choice to the server.

    `shards`, `replicas` and `write_consistency` hold for versions whose `IndexOptions` say nothing else:
    pieces that a version is cut into, copies of each piece, and copies that must have taken a write before
    it is acknowledged. `index_timeout_s` is the longest time that finishing a version waits for its index,
    `publish_timeout_s` the longest that publishing waits for a version to be green. A writer that has not
    been heard of for `lease_s` is taken for dead. `poll_s` is the time between looks at a collection.
    """

    shards: int = 0
    replicas: int = 0
    write_consistency: int = 0
    index_timeout_s: float = 6 * 3600.0
    publish_timeout_s: float = 60.0
    lease_s: float = 60.0
    poll_s: float = 0.5
