"""A folder of checkpoints that is looked at again on every use, so that files come and go at run time."""

from __future__ import annotations

import os
import re
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from combiner_service.checkpoint import ENDINGS, CheckpointSummary, inspect_checkpoint
from combiner_service.checkpoint_metadata import CheckpointMetadata
from combiner_service.combiner import CombinerInfo
from combiner_service.errors import InvalidCheckpointError

PREFIX = "combiner/"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

# Device, inode, size and time of change in nanoseconds: a file that keeps all four was not written to.
Signature = tuple[int, int, int, int]
# Equal to no file's, so that the name is looked at again as soon as one file is left.
_NO_FILE: Signature = (0, 0, 0, 0)

# What reading a file can end in; torch reports a lack of memory as RuntimeError.
FILE_ERRORS = (InvalidCheckpointError, OSError, MemoryError, RuntimeError)


@dataclass(frozen=True, slots=True)
class CheckpointEntry:
    """One name in the folder. `info.problem` says why the file cannot be used, if it cannot."""

    path: Path
    signature: Signature
    info: CombinerInfo


class CheckpointDirectory:
    """The checkpoints of one folder by combiner name, `combiner/<file name without its ending>`.

    A scan reads the names and times of the files, and looks into a file only if it is new or has
    changed. A file that cannot be used stays listed with the reason; the others are not affected.
    Hidden files and other endings are passed over. Safe to use from several threads.

    Args:
        path: the folder. It may vanish and come back (a network share): the last scan holds meanwhile.
        fingerprints: model fingerprint by checkpoint name, for published files, which carry none. A
            file that carries another one than its setting is unusable.
    """

    def __init__(self, path: Path, fingerprints: Mapping[str, str]) -> None:
        self.path = path
        self._fingerprints = dict(fingerprints)
        self._entries: dict[str, CheckpointEntry] = {}
        self._lock = threading.Lock()

    def scan(self) -> Mapping[str, CheckpointEntry]:
        """Look at the folder; entries by combiner name, sorted."""
        with self._lock:
            try:
                found = _files(self.path)
            except OSError:
                return self._entries
            self._entries = {name: self._entry(name, paths) for name, paths in sorted(found.items())}
            return self._entries

    def _entry(self, name: str, paths: list[tuple[Path, Signature]]) -> CheckpointEntry:
        path, signature = paths[0]
        if len(paths) > 1:
            files = ", ".join(_printable(path.name) for path, _ in paths)
            problem = f"several files share the name: {files}; keep one"
            return CheckpointEntry(path, _NO_FILE, _unusable(name, problem))
        known = self._entries.get(name)
        if known and (known.path, known.signature) == (path, signature):
            return known
        return CheckpointEntry(path, signature, self._inspect(name, path))

    def _inspect(self, name: str, path: Path) -> CombinerInfo:
        stem = name.removeprefix(PREFIX)
        if not _NAME.fullmatch(stem):
            return _unusable(name, "rename the file: letters, digits, '.', '_' and '-', at most 128 of them")
        try:
            summary = inspect_checkpoint(path)
            return _info(name, summary, _fingerprint(summary.metadata, self._fingerprints.get(stem, "")))
        except FILE_ERRORS as error:
            return _unusable(name, _reason(error))


def unusable(entry: CheckpointEntry, error: Exception) -> CheckpointEntry:
    """The entry of a file that looked usable until it was read."""
    return replace(entry, info=replace(entry.info, problem=_reason(error)))


def signature_of(path: Path) -> Signature:
    """Raises OSError where the file is gone."""
    status = path.stat()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _files(folder: Path) -> dict[str, list[tuple[Path, Signature]]]:
    found: dict[str, list[tuple[Path, Signature]]] = defaultdict(list)
    with os.scandir(folder) as listing:
        paths = sorted(Path(item.path) for item in listing if not item.name.startswith("."))
    for path in paths:
        if path.suffix not in ENDINGS or not path.is_file():
            continue
        try:
            found[PREFIX + _printable(path.stem)].append((path, signature_of(path)))
        except OSError:
            continue  # gone since it was listed
    return found


def _printable(name: str) -> str:
    # A file name may hold bytes that are no UTF-8; such a name could not be sent.
    return name.encode("utf-8", "replace").decode("utf-8")


def _fingerprint(metadata: CheckpointMetadata, setting: str) -> str:
    own = metadata.model_fingerprint
    if own and setting and own != setting:
        raise InvalidCheckpointError(
            f"the file was trained on model {own}, the setting binds it to {setting}; "
            "take the setting away or use the other file"
        )
    return own or setting


def _info(name: str, summary: CheckpointSummary, fingerprint: str) -> CombinerInfo:
    sizes = summary.sizes
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
