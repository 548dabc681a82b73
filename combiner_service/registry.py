"""Every combiner of a service by name: the simple ones, and those of a folder of checkpoints."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from combiner_service.checkpoint_directory import (
    FILE_ERRORS,
    PREFIX,
    CheckpointDirectory,
    CheckpointEntry,
    Signature,
    signature_of,
    unusable,
)
from combiner_service.combiner import Combiner, CombinerInfo
from combiner_service.errors import CombinerNotFoundError, CombinerUnusableError
from combiner_service.simple import ImageCombiner, SumCombiner, TextCombiner
from combiner_service.slerp import SlerpCombiner

_READ_ATTEMPTS = 3
# In an error message; ListCombiners has them all.
_NAMES_SHOWN = 20


class Registry:
    """Combiners by name. Safe to use from several threads; every method may block on files.

    Args:
        directory: the folder of checkpoints, or None to serve the simple combiners alone (then torch
            is never imported).
        fingerprints: see `CheckpointDirectory`.
        max_loaded: networks held in memory; the least recently used makes room for the next.
        torch_threads: threads that torch uses for one product of matrices; 0 leaves torch's own choice.
    """

    def __init__(
        self,
        directory: Path | None = None,
        fingerprints: Mapping[str, str] | None = None,
        *,
        max_loaded: int = 4,
        torch_threads: int = 0,
    ) -> None:
        if max_loaded < 1:
            raise ValueError(f"max_loaded is {max_loaded}; at least one network must fit")
        simple: tuple[Combiner, ...] = (SumCombiner(), SlerpCombiner(), ImageCombiner(), TextCombiner())
        self._simple = {combiner.info.name: combiner for combiner in simple}
        self._directory = CheckpointDirectory(directory, fingerprints or {}) if directory else None
        self._max_loaded = max_loaded
        self._torch_threads = torch_threads
        self._loaded: OrderedDict[str, tuple[Signature, Combiner]] = OrderedDict()
        # Files whose weights turned out bad when they were read; inspection sees names and shapes only.
        self._rejected: dict[str, CheckpointEntry] = {}
        self._state = threading.Lock()
        # One network is read at a time, so that two calls for the same one read it once.
        self._reading = threading.Lock()

    def infos(self) -> list[CombinerInfo]:
        """What there is, unusable checkpoints included: the simple combiners, then checkpoints by name."""
        return [combiner.info for combiner in self._simple.values()] + [
            entry.info for entry in self._scan().values()
        ]

    def info(self, name: str) -> CombinerInfo:
        """What there is under a name, without loading it. Raises CombinerNotFoundError."""
        if name in self._simple:
            return self._simple[name].info
        return self._entry(name).info

    def get(self, name: str) -> Combiner:
        """The combiner, loaded. Raises CombinerNotFoundError, CombinerUnusableError."""
        if name in self._simple:
            return self._simple[name]
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
        """Names of the networks in memory, least recently used first."""
        with self._state:
            return list(self._loaded)

    def _scan(self) -> dict[str, CheckpointEntry]:
        """What the folder holds, with what reading found out; forgets the networks of files that are gone."""
        entries = dict(self._directory.scan()) if self._directory else {}
        with self._state:
            for name in [name for name in self._loaded if name not in entries]:
                del self._loaded[name]
            for name, rejected in list(self._rejected.items()):
                entry = entries.get(name)
                if entry and entry.signature == rejected.signature and not entry.info.problem:
                    entries[name] = rejected
                else:
                    del self._rejected[name]
        return entries

    def _entry(self, name: str) -> CheckpointEntry:
        entries = self._scan()
        if name not in entries:
            names = [*self._simple, *entries]
            more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            folder = "" if self._directory else f"; there is no folder of checkpoints, so no {PREFIX}..."
            raise CombinerNotFoundError(
                f"no combiner {name[:200]!r}; there are: {', '.join(names[:_NAMES_SHOWN])}{more}{folder}",
                field="combiner",
            )
        return entries[name]

    def _usable_entry(self, name: str) -> CheckpointEntry:
        entry = self._entry(name)
        if entry.info.problem:
            raise CombinerUnusableError(f"{name} cannot be used: {entry.info.problem}", field="combiner")
        return entry

    def _held(self, name: str, entry: CheckpointEntry) -> Combiner | None:
        with self._state:
            signature, combiner = self._loaded.get(name, (None, None))
            if signature != entry.signature:
                return None
            self._loaded.move_to_end(name)
            return combiner

    def _read(self, name: str, entry: CheckpointEntry) -> Combiner | None:
        """Load the network; None where the file is no longer the one that was scanned."""
        with self._reading:
            held = self._held(name, entry)
            if held is not None:
                return held
            try:
                combiner = _load(entry, self._torch_threads)
                if signature_of(entry.path) != entry.signature:
                    return None
            except FILE_ERRORS as error:
                with self._state:
                    self._rejected[name] = unusable(entry, error)
                return None  # the next attempt scans again: a new file is read, this one is refused
            with self._state:
                self._loaded[name] = (entry.signature, combiner)
                self._loaded.move_to_end(name)
                while len(self._loaded) > self._max_loaded:
                    self._loaded.popitem(last=False)
            return combiner


def _load(entry: CheckpointEntry, torch_threads: int) -> Combiner:
    # torch is imported here and not at the top, so that it is only needed where there are checkpoints.
    import torch

    from combiner_service.checkpoint import read_checkpoint
    from combiner_service.network import CombinerNetwork
    from combiner_service.network_combiner import NetworkCombiner

    if torch_threads:
        torch.set_num_threads(torch_threads)
    checkpoint = read_checkpoint(entry.path)
    return NetworkCombiner(entry.info, CombinerNetwork.from_weights(checkpoint.weights))
