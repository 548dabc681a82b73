"""Every combiner of a service by name: those without a checkpoint, and those of a folder of checkpoints."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from cachetools import LRUCache

from cir.composers import CHECKPOINT_PREFIX
from combiner_service.builtin import named_combiners
from combiner_service.checkpoint_directory import (
    FILE_ERRORS,
    CheckpointDirectory,
    CheckpointEntry,
    Signature,
    signature_of,
    unusable,
)
from combiner_service.combiner import CombinerInfo, Composer
from combiner_service.errors import CombinerNotFoundError, CombinerUnusableError, InvalidCheckpointError
from combiner_service.metrics import CombinerMetrics

_READ_ATTEMPTS = 3
# In an error message; ListCombiners has them all.
_NAMES_SHOWN = 20


Load = Callable[[CheckpointEntry], Composer]


def _load(entry: CheckpointEntry) -> Composer:
    # Imported here and not at the top, so that their runtime is only needed where there are checkpoints.
    from combiner_service.network_loading import load_composer

    return load_composer(entry.path, entry.info)


class Registry:
    """Combiners by name. Safe to use from several threads; every method may block on files.

    `named` are the combiners without a checkpoint by name, by default all that are installed. `directory` has
    the checkpoints; without one no runtime of networks is imported. `max_loaded` networks are held in
    memory; the least recently used makes room for the next. `load` reads the network of an entry, and raises
    one of `FILE_ERRORS` where it cannot be used. `metrics` counts loads.
    """

    def __init__(
        self,
        directory: CheckpointDirectory | None = None,
        *,
        named: Mapping[str, Composer] | None = None,
        max_loaded: int = 4,
        load: Load = _load,
        metrics: CombinerMetrics | None = None,
    ) -> None:
        if max_loaded < 1:
            raise ValueError(f"max_loaded is {max_loaded}; at least one network must fit")
        self._named = named_combiners() if named is None else named
        self._directory = directory
        self._load = load
        self._metrics = metrics or CombinerMetrics(self._named)
        self._loaded: LRUCache[str, tuple[Signature, Composer]] = LRUCache(max_loaded)
        # Files whose weights turned out bad when they were read; inspection sees names and shapes only.
        self._rejected: dict[str, CheckpointEntry] = {}
        self._seen = _Seen()
        self._state = threading.Lock()
        # One network is read at a time, so that two calls for the same one read it once.
        self._reading = threading.Lock()

    @property
    def named(self) -> Mapping[str, Composer]:
        """Combiners without a checkpoint by name."""
        return self._named

    def infos(self) -> list[CombinerInfo]:
        """List every combiner, unusable ones too: those without a checkpoint, then checkpoints by name."""
        return [combiner.info for combiner in self._named.values()] + [
            entry.info for entry in self._scan().values()
        ]

    def info(self, name: str) -> CombinerInfo:
        """Describe the combiner of a name, without loading it.

        Raises:
            CombinerNotFoundError: No combiner has this name.
        """
        if name in self._named:
            return self._named[name].info
        return self._entry(name).info

    def get(self, name: str) -> Composer:
        """Return the combiner of a name, loaded.

        Raises:
            CombinerNotFoundError: No combiner has this name.
            CombinerUnusableError: Its checkpoint cannot be used.
        """
        if name in self._named:
            return self._named[name]
        for _ in range(_READ_ATTEMPTS):
            entry = self._usable_entry(name)
            combiner = self._held(name, entry) or self._read(name, entry)
            if combiner is not None:
                return combiner
        raise CombinerUnusableError(
            f"{name} cannot be used: the file keeps changing while it is read; "
            "write it under another name and rename it when complete",
            field="combiner",
        )

    def loaded(self) -> list[str]:
        """Names of the networks in memory."""
        with self._state:
            return list(self._loaded)

    def unusable_count(self) -> int:
        """Checkpoints that cannot be used, as far as is known without another look at the folder."""
        return sum(1 for entry in self._seen.entries.values() if entry.info.problem)

    def _scan(self) -> Mapping[str, CheckpointEntry]:
        """List the folder, with what reading found out; networks of files that are gone are dropped."""
        if self._directory is None:
            return {}
        scanned = self._directory.scan()
        with self._state:
            if self._seen.scanned is not scanned:
                entries = dict(scanned)
                for name in [name for name in self._loaded if name not in entries]:
                    del self._loaded[name]
                for name, rejected in list(self._rejected.items()):
                    entry = entries.get(name)
                    if entry and not entry.info.problem and _same_file(rejected, entry):
                        entries[name] = rejected
                    else:
                        del self._rejected[name]
                self._seen = _Seen(scanned, entries)
            return self._seen.entries

    def _entry(self, name: str) -> CheckpointEntry:
        entries = self._scan()
        if name not in entries:
            names = [*self._named, *entries]
            more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            folder = (
                ""
                if self._directory
                else f"; there is no folder of checkpoints, so no {CHECKPOINT_PREFIX}..."
            )
            raise CombinerNotFoundError(
                f"no combiner {name[:200]!r}; there are: {', '.join(names[:_NAMES_SHOWN])}{more}{folder}",
                field="combiner",
            )
        return entries[name]

    def _usable_entry(self, name: str) -> CheckpointEntry:
        entry = self._entry(name)
        if entry.info.problem:
            raise CombinerUnusableError(_unusable_message(name, entry), field="combiner")
        return entry

    def _held(self, name: str, entry: CheckpointEntry) -> Composer | None:
        with self._state:
            signature, combiner = self._loaded.get(name, (None, None))
            return combiner if signature == entry.signature else None

    def _read(self, name: str, entry: CheckpointEntry) -> Composer | None:
        """Load the network; None where the file has changed since it was scanned."""
        with self._reading:
            held = self._held(name, entry)
            if held is not None:
                return held
            try:
                started = time.perf_counter()
                combiner = self._load(entry)
                if signature_of(entry.path) != entry.signature:
                    return None
            except FILE_ERRORS as error:
                self._metrics.load_failed()
                self._reject(name, entry, error)
                return None  # the next attempt scans again: a new file is read, this one is refused
            self._metrics.loaded(time.perf_counter() - started)
            with self._state:
                self._loaded[name] = (entry.signature, combiner)
            return combiner

    def _reject(self, name: str, entry: CheckpointEntry, error: Exception) -> None:
        """Remember that the file is bad until it changes; for what may pass (a lack of memory), once.

        Raises:
            CombinerUnusableError: The file is the one that was scanned.
        """
        rejected = unusable(entry, error)
        if not isinstance(error, InvalidCheckpointError):
            rejected = replace(rejected, settled=False)
        with self._state:
            self._rejected[name] = rejected
            self._seen = _Seen()
        try:
            unchanged = signature_of(entry.path) == entry.signature
        except OSError:
            unchanged = False
        if unchanged:
            raise CombinerUnusableError(_unusable_message(name, rejected), field="combiner") from error


def _unusable_message(name: str, entry: CheckpointEntry) -> str:
    return f"{name} cannot be used: {entry.info.problem}"


@dataclass(frozen=True, slots=True)
class _Seen:
    """A scan and what became of it. No scan is the same object as a new one's."""

    scanned: Mapping[str, CheckpointEntry] = field(default_factory=dict)
    entries: Mapping[str, CheckpointEntry] = field(default_factory=dict)


def _same_file(rejected: CheckpointEntry, entry: CheckpointEntry) -> bool:
    """Return true if the rejected file is still there.

    One that was rejected while it changed, or for what may pass, is read once more when it has settled.
    """
    return rejected.signature == entry.signature and rejected.settled == entry.settled
