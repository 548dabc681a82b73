"""How the copy of a version is spread over a Qdrant cluster."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from vector_store.catalogs import VersionSpec


@dataclass(frozen=True, slots=True)
class Placement:
    """Counts as in `IndexOptions`, for a version that is made from another; 0 keeps what that one has."""

    shards: int = 0
    replicas: int = 0
    write_consistency: int = 0

    def of(self, spec: VersionSpec) -> VersionSpec:
        """`spec` with what is asked for here."""
        index = replace(
            spec.index,
            shards=self.shards or spec.index.shards,
            replicas=self.replicas or spec.index.replicas,
            write_consistency=self.write_consistency or spec.index.write_consistency,
        )
        return replace(spec, index=index)

    def against(self, spec: VersionSpec) -> str:
        """What `spec` has that is not what is asked for here, in words; '' for nothing."""
        return ", ".join(
            f"{name} {getattr(spec.index, name)}, not {asked}"
            for name, asked in asdict(self).items()
            if asked and getattr(spec.index, name) != asked
        )
