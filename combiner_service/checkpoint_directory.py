"""A folder of checkpoints that is looked at again while it is used, so that files come and go at run time."""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cir.composers import CHECKPOINT_PREFIX
from combiner_service.checkpoint import ENDINGS, CheckpointMetadata, CheckpointSummary, inspect_checkpoint
from combiner_service.combiner import CombinerInfo, Needs
from combiner_service.errors import InvalidCheckpointError
from combiner_service.inversion import inversion_traits
from combiner_service.network_spec import NetworkSizes, PhiSizes

#: Prefix of the name of a checkpoint, by what its tensors are.
PREFIXES: Mapping[type, str] = {NetworkSizes: CHECKPOINT_PREFIX, PhiSizes: "inversion/"}
#: What may follow a prefix.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

# Device, inode, size, and times of change of content and of the file in nanoseconds. The last one cannot be
# set by a copying program, so that a file that keeps all five was not written to since.
Signature = tuple[int, int, int, int, int]
# Equal to no file's, so that the name is looked at again as soon as one file is left.
_NO_FILE: Signature = (0, 0, 0, 0, 0)
# File systems keep times in steps: a file that changed this short a while before it was looked at may change
# again without its times telling (FAT has the largest step, 2 s).
_UNSETTLED_SECONDS = 2.0

# What reading a file can end in; torch reports a lack of memory as RuntimeError.
FILE_ERRORS = (InvalidCheckpointError, OSError, MemoryError, RuntimeError)


@dataclass(frozen=True, slots=True)
class CheckpointEntry:
    """One name in the folder. `info.problem` says why the file cannot be used, if it cannot.

    An entry that is not `settled` was looked at so soon after the file had changed that its signature does
    not prove it unchanged.
    """

    path: Path
    signature: Signature
    info: CombinerInfo
    settled: bool = True


class CheckpointDirectory:
    """The checkpoints of folders by name: `combiner/` or `inversion/`, and the file name without ending.

    What a file is follows from its tensors; one that never could be read is listed as `combiner/`. A scan
    reads the names and times of the files, and looks into a file only if it is new or has changed. A file
    that cannot be used stays listed with the reason; the others are not affected.
    Hidden files and other endings are passed over. Safe to use from several threads.

    A folder of `paths` may vanish and come back (a network share): the last scan holds meanwhile. One that
    was never there is empty.
    `fingerprints` are model fingerprints by checkpoint name, for published files, which carry none; a file
    that carries another one than its setting is unusable. A scan holds for `interval` seconds; 0 scans on
    every use. Files of more than `max_bytes` are not looked into. A file of `fallback`, which is one of the
    folders, gives way to one of the same name in another.
    """

    def __init__(
        self,
        paths: Path | Sequence[Path],
        fingerprints: Mapping[str, str],
        *,
        interval: float = 0.0,
        max_bytes: int = 1 << 32,
        fallback: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        folders = (paths,) if isinstance(paths, Path) else tuple(paths)
        # The fallback last, so that what it gives way to is known.
        self.paths = tuple(sorted(folders, key=lambda path: path == fallback))
        self._fallback = fallback
        self._fingerprints = dict(fingerprints)
        self._interval = interval
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: Mapping[str, CheckpointEntry] = {}
        self._by_stem: Mapping[str, CheckpointEntry] = {}
        self._fresh_until = float("-inf")
        self._lock = threading.Lock()

    def scan(self) -> Mapping[str, CheckpointEntry]:
        """Entries by combiner name, sorted, as of at most `interval` seconds ago.

        The same object as before where nobody has looked at the folder since.
        """
        if self._clock() < self._fresh_until:
            return self._entries
        with self._lock:
            # Whoever waited for another thread's scan takes it over.
            if self._clock() >= self._fresh_until:
                self._entries = self._scanned()
                # Counted from the end: a slow folder is not looked at all the time.
                self._fresh_until = self._clock() + self._interval
            return self._entries

    def _scanned(self) -> Mapping[str, CheckpointEntry]:
        found: _Files = defaultdict(list)
        kept: dict[str, CheckpointEntry] = {}
        for folder in self.paths:
            try:
                files = _files(folder)
            except OSError:
                kept |= {stem: entry for stem, entry in self._by_stem.items() if entry.path.parent == folder}
                continue
            taken = kept.keys() | found.keys() if folder == self._fallback else set()
            for stem, named in files.items():
                if stem not in taken:
                    found[stem] += named
        self._by_stem = kept | {stem: self._entry(stem, files) for stem, files in found.items()}
        return {entry.info.name: entry for entry in sorted(self._by_stem.values(), key=_name)}

    def _entry(self, stem: str, files: list[tuple[Path, os.stat_result | None]]) -> CheckpointEntry:
        path, status = files[0]
        known = self._by_stem.get(stem)
        # A file that cannot be used any more keeps its name.
        name = known.info.name if known else CHECKPOINT_PREFIX + stem
        if len(files) > 1:
            names = ", ".join(_printable(path.name) for path, _ in files)
            problem = f"several files share the name: {names}; keep one"
            return CheckpointEntry(path, _NO_FILE, _unusable(name, problem))
        if status is None or not stat.S_ISREG(status.st_mode):
            problem = "a link that leads to no file" if status is None else "not a regular file"
            return CheckpointEntry(
                path, _NO_FILE, _unusable(name, f"{problem}; put a file there or remove it")
            )
        signature = _signature(status)
        if known and known.settled and (known.path, known.signature) == (path, signature):
            return known
        # Before the look into it, so that what changes meanwhile is looked at again.
        settled = time.time() - max(status.st_mtime, status.st_ctime) > _UNSETTLED_SECONDS
        return CheckpointEntry(path, signature, self._inspect(name, stem, path, status.st_size), settled)

    def _inspect(self, name: str, stem: str, path: Path, size: int) -> CombinerInfo:
        if not NAME.fullmatch(stem):
            return _unusable(name, "rename the file: letters, digits, '.', '_' and '-', at most 128 of them")
        if size > self._max_bytes:
            return _unusable(
                name, f"the file has {size} bytes; at most {self._max_bytes} are read (max_checkpoint_bytes)"
            )
        try:
            summary = inspect_checkpoint(path)
            fingerprint = _fingerprint(summary.metadata, self._fingerprints.get(stem, ""))
            return checkpoint_info(PREFIXES[type(summary.sizes)] + stem, summary, fingerprint)
        except FILE_ERRORS as error:
            return _unusable(name, _reason(error))


def is_checkpoint(name: str) -> bool:
    """Return true for the name of a checkpoint, whether or not there is one of that name."""
    return name.startswith(tuple(PREFIXES.values()))


def unusable(entry: CheckpointEntry, error: Exception) -> CheckpointEntry:
    """The entry of a file that looked usable until it was read."""
    return replace(entry, info=replace(entry.info, problem=_reason(error)))


def signature_of(path: Path) -> Signature:
    """Return the signature of a file.

    Raises:
        OSError: The file is gone.
    """
    return _signature(path.stat())


def _signature(status: os.stat_result) -> Signature:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


_Files = dict[str, list[tuple[Path, os.stat_result | None]]]


def _files(folder: Path) -> _Files:
    """List the files with one of our endings by name without it, links followed; None for links nowhere."""
    found: _Files = defaultdict(list)
    with os.scandir(folder) as listing:
        paths = sorted(Path(item.path) for item in listing if not item.name.startswith("."))
    for path in paths:
        if path.suffix not in ENDINGS:
            continue
        try:
            status = path.stat()
        except OSError:
            if not path.is_symlink():
                continue  # gone since it was listed
            status = None
        found[_printable(path.stem)].append((path, status))
    return found


def _printable(name: str) -> str:
    # A file name may hold bytes that are no UTF-8, which could not be sent, and control characters.
    text = name.encode("utf-8", "replace").decode("utf-8")
    return "".join(character if character.isprintable() else "?" for character in text)


def _fingerprint(metadata: CheckpointMetadata, setting: str) -> str:
    own = metadata.model_fingerprint
    if own and setting and own != setting:
        raise InvalidCheckpointError(
            f"the file was trained on model {own}, the setting binds it to {setting}; "
            "take the setting away or use the other file"
        )
    return own or setting


def _name(entry: CheckpointEntry) -> str:
    return entry.info.name


def checkpoint_info(name: str, summary: CheckpointSummary, fingerprint: str) -> CombinerInfo:
    """Describe a checkpoint that can be used.

    Raises:
        InvalidCheckpointError: It is an inversion with a template that is none.
    """
    sizes = summary.sizes
    if isinstance(sizes, PhiSizes):
        traits = inversion_traits(summary.metadata.extra)
        return CombinerInfo(
            name=name,
            description=(
                f"Textual inversion, {sizes.feature_dim} values to a word of {sizes.token_width}, read as "
                f"{traits.template!r}."
            ),
            takes_text_weight=False,
            dimension=sizes.feature_dim,
            model_fingerprint=fingerprint,
            metadata=summary.metadata.texts(),
            needs=Needs.TEXT_TOWER,
            token_width=sizes.token_width,
        )
    return CombinerInfo(
        name=name,
        description=(
            f"Combiner network, {sizes.feature_dim} values, projection {sizes.projection_dim}, "
            f"hidden {sizes.hidden_dim}; its own weight for each text unless given."
        ),
        takes_text_weight=True,
        dimension=sizes.feature_dim,
        model_fingerprint=fingerprint,
        metadata=summary.metadata.texts(),
    )


def _unusable(name: str, problem: str) -> CombinerInfo:
    return CombinerInfo(
        name=name,
        description="Combiner network that cannot be used.",
        takes_text_weight=True,
        problem=problem,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"the file cannot be read: {error.strerror or error}"
    if isinstance(error, MemoryError):
        return "the file does not fit into memory"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
