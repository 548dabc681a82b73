"""Benchmark queries, whose answers are known: texts to suggest for a reference, and the right results."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
    """Benchmark queries by the path of their reference's image, in the order of their manifests."""

    def __init__(self, queries: Sequence[tuple[str, BenchmarkQuery]] = ()) -> None:
        self._ordered = list(queries)
        self._queries: dict[str, list[BenchmarkQuery]] = {}
        self._places: dict[tuple[str, str], int] = {}
        for place, (image, query) in enumerate(self._ordered):
            self._queries.setdefault(image, []).append(query)
            self._places.setdefault((image, query.text), place)

    def __len__(self) -> int:
        return len(self._ordered)

    @classmethod
    def read(cls, manifests: Sequence[Path]) -> BenchmarkQueries:
        """Read triplet manifests (JSON Lines); names in them are relative to their folder.

        Of a manifest with several splits the training split is left out: what a model was trained on says
        nothing of it.

        Raises:
            StartupError: a manifest that cannot be read.
        """
        queries: list[tuple[str, BenchmarkQuery]] = []
        for manifest in manifests:
            found: list[tuple[bool, str, BenchmarkQuery]] = []
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
                    found.append((row.get("split") == "train", str(folder / row["reference"]), query))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise StartupError(f"known_queries {manifest} cannot be read: {error!r}") from error
            only_training = all(training for training, _, _ in found)
            queries += [(image, query) for training, image, query in found if only_training or not training]
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

    def place(self, image: str, text: str) -> int:
        """Return the index, among all queries, of the one with that reference and text.

        Raises:
            KeyError: it is not a benchmark query.
        """
        return self._places[image, text]

    def beside(self, place: int, step: int, count: int) -> Sequence[tuple[str, BenchmarkQuery]]:
        """Return at most `count` queries after a place, or with a `step` of -1 before it, by reference."""
        places = range(place + step, place + step * (count + 1), step)
        return [self._ordered[each] for each in places if 0 <= each < len(self._ordered)]


def candidate_ids(path: str) -> list[str]:
    """Return the ids that an image's item may have: the last parts of its path, with and without suffix."""
    place = PurePath(path)
    parts = place.parts[1:] if place.anchor else place.parts
    tails = ["/".join(parts[-length:]) for length in range(1, len(parts) + 1)]
    return [name for tail in tails for name in (tail, tail.removesuffix(place.suffix))]
