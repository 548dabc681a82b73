"""Queries of a split as features and positions, and how many of them can be answered.

What is missing is counted, never dropped in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from cir.vectors import split_lengths
from combiner_service.combiner import Float32
from combiner_training.captions import joined
from combiner_training.datasets.base import Query, Split
from combiner_training.evaluation.protocol import Gallery, Protocol, Reference
from combiner_training.evaluation.ranking import NONE, Positions, padded
from combiner_training.feature_file import FeatureTable


@dataclass(frozen=True, slots=True)
class Coverage:
    """`queries` are those of the annotation, `answered` those that a metric is the mean of.

    A query is not answered where its reference or its text has no features, or where no image of its targets
    has. `gallery` are the images that are ranked; `gallery_missing` could not be, `group_missing` are members
    of groups among them. No combiner can be right on those of `target_dropped`, whose only target in the
    gallery is the reference that the protocol drops, and of `target_outside`, which have none there.
    """

    queries: int = 0
    answered: int = 0
    reference_missing: int = 0
    text_missing: int = 0
    target_missing: int = 0
    gallery: int = 0
    gallery_missing: int = 0
    group_missing: int = 0
    target_dropped: int = 0
    target_outside: int = 0

    def __add__(self, other: Coverage) -> Coverage:
        return Coverage(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    @property
    def text(self) -> str:
        """The counts on one line; it says outright when something is missing."""
        line = f"{self.answered} of {self.queries} queries over {self.gallery} images"
        missing = {
            name.replace("_", " "): count
            for name, count in asdict(self).items()
            if name.endswith("_missing") and count
        }
        listed = ", ".join(f"{count} {name}" for name, count in missing.items())
        line = f"{line}; MISSING: {listed}" if listed else f"{line}; nothing is missing"
        beyond = [
            f"{count} whose {why}"
            for count, why in (
                (self.target_dropped, "only target is the reference, which is dropped"),
                (self.target_outside, "targets are not in the gallery"),
            )
            if count
        ]
        return f"{line}; OUT OF REACH: {', '.join(beyond)}" if beyond else line

    @property
    def complete(self) -> bool:
        """True if nothing is missing and every query can be answered rightly."""
        counts = asdict(self)
        return self.answered == self.queries and not any(
            count for name, count in counts.items() if name.endswith(("_missing", "_dropped", "_outside"))
        )


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationQueries:
    """The queries of a split that can be answered, and the gallery that answers them.

    `image_features` and `text_features`, those of `images` and `texts`, are (n, d) raw, `gallery` (N, d) unit
    rows of the images `names`. `targets` (n, T), `members` (n, M) and `references` (n,) are positions in the
    gallery, NONE where there is none; `target_counts` (n,) counts right answers, also those without an image.
    """

    split: str
    ids: tuple[str, ...]
    names: tuple[str, ...]
    images: tuple[str, ...]
    texts: tuple[str, ...]
    image_features: Float32
    text_features: Float32
    gallery: Float32
    references: Positions
    targets: Positions
    target_counts: NDArray[np.int64]
    members: Positions
    wishes: tuple[int, ...]
    drop_reference: bool
    coverage: Coverage

    @property
    def excluded(self) -> Positions | None:
        """Position that the protocol takes out of each ranking, (n,), or None."""
        return self.references if self.drop_reference else None

    @property
    def has_groups(self) -> bool:
        """True if queries have a group to be ranked in."""
        return bool(self.members.shape[1])


def evaluation_queries(
    split: Split, images: FeatureTable, texts: FeatureTable, protocol: Protocol
) -> EvaluationQueries:
    """Look up everything that evaluating needs.

    Queries whose targets are withheld (CIRR's test1) stay, without targets.

    Raises:
        FeatureFileError: A name has no row.
    """
    listed = gallery_of(split, protocol.gallery)
    rows = images.rows(listed)
    names = tuple(name for name, row in zip(listed, rows, strict=True) if row >= 0)
    place = {name: at for at, name in enumerate(names)}
    queries = split.queries
    reference_rows = images.rows([query.reference for query in queries])
    joined_texts = [joined(query.texts, protocol.captions) for query in queries]
    text_rows = texts.rows(joined_texts)
    known = set(listed)
    # A target outside the gallery is a miss of every combiner; one whose image is missing is nobody's fault.
    lost = np.array([_lost(query, known, place) for query in queries], bool)
    sound = np.flatnonzero((reference_rows >= 0) & (text_rows >= 0) & ~lost)
    kept = [queries[index] for index in sound]
    groups = [tuple(name for name in dict.fromkeys(query.group) if name != query.reference) for query in kept]
    drop_reference = protocol.reference is Reference.DROP
    within = [(query, known.intersection(query.targets)) for query in kept if query.targets]
    coverage = Coverage(
        queries=len(queries),
        answered=len(kept),
        reference_missing=int((reference_rows < 0).sum()),
        text_missing=int((text_rows < 0).sum()),
        target_missing=int(lost.sum()),
        gallery=len(names),
        gallery_missing=len(listed) - len(names),
        group_missing=len({name for group in groups for name in group if name not in place}),
        target_dropped=sum(drop_reference and there == {query.reference} for query, there in within),
        target_outside=sum(not there for _, there in within),
    )
    return EvaluationQueries(
        split=split.name,
        ids=tuple(query.id for query in kept),
        names=names,
        images=tuple(query.reference for query in kept),
        texts=tuple(joined_texts[index] for index in sound),
        image_features=images.take(reference_rows[sound]),
        text_features=texts.take(text_rows[sound]),
        gallery=split_lengths(images.take(rows[rows >= 0]))[0],
        references=np.array([place.get(query.reference, NONE) for query in kept], np.int64),
        targets=padded([_places(dict.fromkeys(query.targets), place) for query in kept]),
        target_counts=np.array([len(set(query.targets)) for query in kept], np.int64),
        members=padded([_places(group, place) for group in groups]),
        wishes=tuple(_wishes(kept)),
        drop_reference=drop_reference,
        coverage=coverage,
    )


def _wishes(queries: Sequence[Query]) -> Iterator[int]:
    """Number what is asked for; a query whose targets are withheld is a wish of its own."""
    numbers: dict[object, int] = {}
    for query in queries:
        wish = (query.reference, frozenset(query.targets)) if query.targets else query.id
        yield numbers.setdefault(wish, len(numbers))


def gallery_of(split: Split, gallery: Gallery) -> tuple[str, ...]:
    """The names that are ranked, each once, in the order of the split."""
    listed = dict.fromkeys(split.gallery)
    if gallery is Gallery.ORIGINAL:
        return tuple(listed)
    named = {name for query in split.queries for name in (query.reference, *query.targets, *query.group)}
    return tuple(dict.fromkeys((*(name for name in listed if name in named), *sorted(named))))


def _lost(query: Query, listed: set[str], place: dict[str, int]) -> bool:
    """Return true if every target that the gallery should have has no features."""
    expected = [name for name in query.targets if name in listed]
    return bool(expected) and not any(name in place for name in expected)


def _places(names: Sequence[str] | dict[str, None], place: dict[str, int]) -> list[int]:
    return [place[name] for name in names if name in place]
