"""Files that a source passes over, counted by reason, with names to look for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cir.member_names import PassedOver

# Names of each reason that are kept.
_NAMED = 3
_NAME_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class PassedOverFiles:
    """Files and folders of a source that are no items, by reason: how many, and the first names.

    What lies in a folder that is passed over is not counted. Reasons are those of `cir.member_names`.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Reasons with counts and names, commonest first; empty for none."""
        ordered = sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return ", ".join(f"{reason} {count} ({self._named(reason, count)})" for reason, count in ordered)

    def _named(self, reason: str, count: int) -> str:
        names = self.names.get(reason, ())
        return ", ".join([*names, *(["..."] if count > len(names) else [])])


NOTHING_PASSED_OVER = PassedOverFiles()


class PassedOverCount:
    """Counts of what a source passes over while it is looked through."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, reason: PassedOver, path: str) -> None:
        """Count a file or a folder in."""
        self._counts[reason.value] = self._counts.get(reason.value, 0) + 1
        names = self._names.setdefault(reason.value, [])
        if len(names) < _NAMED:
            names.append(_shown(path))

    def files(self) -> PassedOverFiles:
        """Return what was counted so far."""
        return PassedOverFiles(
            dict(self._counts), {reason: tuple(names) for reason, names in self._names.items()}
        )


def _shown(name: str) -> str:
    # Names that are no Unicode, or hold line ends, come from file systems; those in a tar file may be long.
    cut = name if len(name) <= _NAME_CHARACTERS else f"{name[:_NAME_CHARACTERS]}…"
    return cut if cut.isprintable() else ascii(cut)[1:-1]
