"""Files that are there whole or not at all: written under a temporary name, made durable, renamed."""

from __future__ import annotations

import json
import os
import secrets
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_IS_WINDOWS = os.name == "nt"


@contextmanager
def replace_file(path: Path, *, mode: int | None = None, durable: bool = True) -> Iterator[Path]:
    """Yield an empty file next to `path` to write to; it takes the place of `path` when the block ends well.

    Otherwise it is removed and what was there stays, also when the disk is full. The leading dot of its name
    hides it from readers that look through the folder meanwhile.

    `mode` is the file's permissions (by default those that the process's umask gives). A `durable` file and
    its name survive a loss of power from the end of the block on; without it only readers are protected.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode))
    try:
        yield temporary
        if mode is not None:
            temporary.chmod(mode)
        commit_file(temporary, path, durable=durable)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def commit_file(temporary: Path, path: Path, *, durable: bool = True) -> None:
    """Give a file that was written under a temporary name, in the same folder, its final one.

    With `durable` its content reaches the disk before the name does, and the name before this returns.
    """
    if durable:
        sync_file(temporary)
    temporary.replace(path)
    if durable:
        sync_directory(path.parent)


def write_bytes(path: Path, content: bytes, *, mode: int | None = None, durable: bool = True) -> None:
    """Write a file, whole or not at all."""
    with replace_file(path, mode=mode, durable=durable) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str, *, mode: int | None = None, durable: bool = True) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    write_bytes(path, text.encode(), mode=mode, durable=durable)


def write_json(path: Path, document: Mapping[str, object]) -> None:
    """Write a JSON object in UTF-8, whole or not at all: readers see the old or the new document."""
    write_text(path, json.dumps(document, ensure_ascii=False, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file, None when there is no file.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return document


def write_json_lines(path: Path, rows: Iterable[Mapping[str, object]], *, mode: int | None = None) -> None:
    """Write one row a line in UTF-8, whole or not at all; also when making the rows fails."""
    with replace_file(path, mode=mode) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def sync_directory(directory: Path) -> None:
    """Make the created, renamed and removed entries of a directory durable.

    On Windows, which opens no directory, they are so by themselves or not at all.
    """
    if not _IS_WINDOWS:
        _sync(directory, os.O_RDONLY)


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    # Windows does so only for who may write.
    _sync(path, os.O_RDWR if _IS_WINDOWS else os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


SEAL = "sum"
"""Name of the member with the checksum of a sealed document's others."""


def seal(document: Mapping[str, object]) -> dict[str, object]:
    """Return a JSON object with a checksum of all its members, which `check_seal` compares."""
    return {**document, SEAL: _seal_of(document)}


def check_seal(document: Mapping[str, Any], *, unsealed: Collection[str]) -> dict[str, Any]:
    """Return the members of a sealed document without the seal.

    A document without a seal passes when it has no other members than `unsealed`, which are those of the time
    before there were seals: damage to the seal's own name does not make it one.

    Raises:
        ValueError: the document is not what was sealed.
    """
    members = {name: value for name, value in document.items() if name != SEAL}
    if SEAL in document:
        if document[SEAL] != _seal_of(members):
            raise ValueError("its checksum is not that of its content")
    elif unknown := sorted(set(members) - set(unsealed)):
        raise ValueError(f"it has no checksum and an unknown member {unknown[0]!r}")
    return members


def _seal_of(document: Mapping[str, object]) -> str:
    text = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode(errors='surrogatepass')):08x}"
