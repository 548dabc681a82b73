"""How much of a data set a number was measured on. What is missing is counted, never dropped in silence."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, slots=True)
class Counts:
    """`queries` are those of the annotation, `answered` those that a metric is the mean of.

    A query is not answered where its reference or its text has no features, or where no image of its targets
    has. `gallery` are the images that are ranked; `gallery_missing` could not be, `group_missing` are members
    of groups among them.
    """

    queries: int = 0
    answered: int = 0
    reference_missing: int = 0
    text_missing: int = 0
    target_missing: int = 0
    gallery: int = 0
    gallery_missing: int = 0
    group_missing: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    @property
    def text(self) -> str:
        """On one line; says outright when something is missing."""
        line = f"{self.answered} of {self.queries} queries over {self.gallery} images"
        missing = {
            name.replace("_", " "): count
            for name, count in asdict(self).items()
            if name.endswith("_missing") and count
        }
        listed = ", ".join(f"{count} {name}" for name, count in missing.items())
        return f"{line}; MISSING: {listed}" if listed else f"{line}; nothing is missing"
