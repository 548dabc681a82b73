"""Benchmark queries, whose answers are known: texts to suggest for a reference, and the right results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from service_runtime.errors import StartupError


@dataclass(frozen=True, slots=True)
class BenchmarkQuery:
    """A text for a reference; `targets` and `group` are paths of images."""

    text: str
    targets: frozenset[str]
    group: tuple[str, ...]


class BenchmarkQueries:
    """Benchmark queries by the path of their reference's image."""

    def __init__(self, queries: Mapping[str, Sequence[BenchmarkQuery]] | None = None) -> None:
        self._queries = dict(queries or {})

    @classmethod
    def read(cls, manifests: Sequence[Path]) -> BenchmarkQueries:
        """Read triplet manifests (JSON Lines); names in them are relative to their folder.

        Raises:
            StartupError: a manifest that cannot be read.
        """
        queries: dict[str, list[BenchmarkQuery]] = {}
        for manifest in manifests:
            folder = manifest.resolve().parent
            try:
                rows = [
                    json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines() if line
                ]
                for row in rows:
                    if "reference" not in row:
                        continue
                    targets = row.get("targets") or ([row["target"]] if "target" in row else [])
                    texts = row.get("texts") or [row["text"]]
                    query = BenchmarkQuery(
                        " and ".join(texts),
                        frozenset(str(folder / name) for name in targets),
                        tuple(str(folder / name) for name in row.get("group", ())),
                    )
                    queries.setdefault(str(folder / row["reference"]), []).append(query)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise StartupError(f"known_queries {manifest} cannot be read: {error!r}") from error
        return cls(queries)

    @property
    def references(self) -> Sequence[str]:
        """Paths of the images that queries start from, in the order of their manifests."""
        return list(self._queries)

    def of(self, image: str) -> Sequence[BenchmarkQuery]:
        """Return the queries that start from an image."""
        return self._queries.get(image, ())

    def find(self, image: str, text: str) -> BenchmarkQuery | None:
        """Return the query with that reference and text, None when it is not a benchmark query."""
        return next((query for query in self.of(image) if query.text == text), None)


def candidate_ids(path: str) -> list[str]:
    """Return the ids that an image's item may have: the last parts of its path, with and without suffix."""
    place = PurePath(path)
    parts = place.parts[1:] if place.anchor else place.parts
    tails = ["/".join(parts[-length:]) for length in range(1, len(parts) + 1)]
    return [name for tail in tails for name in (tail, tail.removesuffix(place.suffix))]
