"""Tar shards in the layout of WebDataset: members of one key, one after the other, make an item.

Nothing is unpacked: a member is referred to by its place in the shard."""

from __future__ import annotations

import glob
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath

from indexer.errors import SourceError
from indexer.rejects import IMAGE_MISSING, IMAGE_NOT_READABLE, ROW_MALFORMED, Reject
from indexer.sources.base import (
    FileStat,
    ImageError,
    ImageRef,
    Source,
    SourceFacts,
    SourceItem,
    check_content,
    too_large,
)
from indexer.sources.columns import ColumnTypes, UnusableValue, payload_of
from indexer.sources.folder import IMAGE_EXTENSIONS
from indexer.sources.image_folders import fold_folders
from indexer.sources.rows import CellText
from vector_store.types import FieldType

# A header of extended fields is read as a whole; real ones have a few hundred bytes.
_MAX_HEADER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class TarImage(ImageRef):
    """A regular member of an uncompressed tar file, by its place in it."""

    shard: Path
    name: str
    offset: int
    size: int

    def stat(self) -> FileStat:
        try:
            return FileStat(self.size, self.shard.stat().st_mtime_ns)
        except FileNotFoundError:
            raise ImageError(IMAGE_MISSING, "does not exist: its shard is gone") from None
        except OSError as error:
            raise ImageError(IMAGE_NOT_READABLE, f"cannot be read: {error.strerror}") from error

    def read(self, max_bytes: int) -> bytes:
        if self.size > max_bytes:
            raise too_large(self.size, max_bytes)
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except FileNotFoundError:
            raise ImageError(IMAGE_MISSING, "does not exist: its shard is gone") from None
        except OSError as error:
            raise ImageError(IMAGE_NOT_READABLE, f"cannot be read: {error.strerror}") from error
        if len(content) < self.size:
            raise ImageError(IMAGE_NOT_READABLE, "is cut off: its shard became shorter", len(content))
        return check_content(content, max_bytes)

    def __str__(self) -> str:
        return f"{self.shard}!/{self.name}"


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a shard; `problem` says why it cannot be used, '' when it can."""

    image_ref: TarImage
    problem: str = ""


def members(shard: Path) -> Iterator[Member]:
    """The files of a shard in order; folders are passed over. Nothing but headers is read.

    Raises:
        SourceError: a shard that is no tar file, is compressed, damaged or cut off.
    """
    try:
        with _Headers(io.FileIO(shard)) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                # The module would remember every member; a shard may have a million.
                tar.members.clear()  # type: ignore[attr-defined]
                if not info.isdir():
                    yield Member(TarImage(shard, info.name, info.offset_data, info.size), _problem(info))
    except (tarfile.TarError, OSError, ValueError) as error:
        raise SourceError(
            f"shard {shard} cannot be read as an uncompressed tar file: {error}; fetch or write it again"
        ) from error


def _problem(info: tarfile.TarInfo) -> str:
    path = PurePosixPath(info.name)
    if path.is_absolute() or ".." in path.parts or "\0" in info.name:
        return "its name leads out of the shard; expected a relative path without '..'"
    if not info.isreg() or info.issparse():
        return "it is no regular file (a link, a device, or sparse); put the file itself into the shard"
    return ""


class _Headers(io.BufferedReader):
    """A file of which only so much may be read at once as headers have."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header has {size} bytes; expected at most {_MAX_HEADER_BYTES}")
        return super().read(size)


_MAX_TEXT_BYTES = 1024 * 1024
_TEXT, _CLASS = "text", "cls"


class TarSource(Source):
    """Shards of uncompressed tar files, in the order of their names; nothing is unpacked.

    The key of a member is its path up to the first dot of its file name; it is the item's id, so it must be
    unique over all shards. The image is the member with an image's extension; `.json` holds the payload as
    an object, `.txt` becomes its field `text`, `.cls` its field `cls`; all others are passed over. Fields
    that hold objects are left out with a remark. Links, devices and names that lead elsewhere are rejects.
    """

    def __init__(
        self,
        pattern: str,
        *,
        image_base: str = "",
        schema: Mapping[str, FieldType] | None = None,
        text_fields: tuple[str, ...] = (),
    ) -> None:
        self.name = pattern
        self._shards = [Path(name).resolve() for name in sorted(glob.glob(pattern))] or [Path(pattern)]
        self._base = image_base
        self._given = {**dict.fromkeys(text_fields, FieldType.TEXT), **(schema or {})}
        self._schema: Mapping[str, FieldType] | None = None
        first = self._shards[0]
        self.rejects_path = (
            first.parent / f"{first.stem if len(self._shards) == 1 else 'shards'}.rejects.jsonl"
        )

    def survey(self) -> SourceFacts:
        """Find types and count items.

        Raises:
            SourceError: a shard is missing or damaged.
        """
        types, total, left_out = ColumnTypes(), 0, set[str]()
        for _, group in self._groups():
            total += 1
            try:
                cells = _cells(group)
            except ValueError:
                continue  # reported as a reject when the items come
            for name, cell in cells.items():
                try:
                    types.see({name: cell}, total)
                except UnusableValue:
                    left_out.add(name)
        if not total:
            raise SourceError(
                f"{self.name} holds no items; expected members such as 000001.jpg and 000001.json"
            )
        for name in left_out:
            types.seen.pop(name, None)
        if unknown := sorted(self._given.keys() - types.seen.keys()):
            raise SourceError(
                f"{self.name} has no payload field {unknown[0]!r}; there are: {sorted(types.seen)}"
            )
        try:
            schema, notes = types.schema(self._given)
        except UnusableValue as error:
            raise SourceError(f"{self.name}: {error}") from None
        notes += [f"field {name!r} is left out: it holds objects" for name in sorted(left_out)]
        self._schema = schema
        # Without a base the location is a place in a shard, which is no file of its own.
        folders = fold_folders([os.path.dirname(self._base)] if self._base else [])
        return SourceFacts(total=total, schema=schema, notes=tuple(notes), image_folders=folders)

    def items(self) -> Iterator[SourceItem | Reject]:
        """The items; `survey` comes first where it was not called yet."""
        schema = self._schema if self._schema is not None else self.survey().schema
        for key, group in self._groups():
            yield self._item(key, group, schema)

    def _item(
        self, key: str, group: Sequence[Member], schema: Mapping[str, FieldType]
    ) -> SourceItem | Reject:
        where = str(group[0].image_ref)
        for member in group:
            if member.problem:
                return Reject(key, where, IMAGE_NOT_READABLE, f"{member.image_ref}: {member.problem}")
        image_refs = [
            m.image_ref for m in group if PurePosixPath(m.image_ref.name).suffix.lower() in IMAGE_EXTENSIONS
        ]
        if not image_refs:
            return Reject(key, where, IMAGE_MISSING, f"{where}: no member of this key is an image")
        if len(image_refs) > 1:
            return Reject(
                key, where, ROW_MALFORMED, f"{where}: {len(image_refs)} images of one key; expected one"
            )
        image_ref = image_refs[0]
        image = f"{self._base}{image_ref.name}" if self._base else str(image_ref)
        try:
            cells = _cells(group)
        except ValueError as error:
            return Reject(key, image, ROW_MALFORMED, f"{image_ref}: {error}")
        payload = payload_of({name: cell for name, cell in cells.items() if name in schema}, schema)
        return SourceItem(key, image_ref, image, payload)

    def _groups(self) -> Iterator[tuple[str, list[Member]]]:
        for shard in self._shards:
            for key, group in groupby(members(shard), key=_key):
                yield key, list(group)


def _key(member: Member) -> str:
    path = PurePosixPath(member.image_ref.name)
    return str(path.parent / path.name.partition(".")[0])


def _cells(group: Sequence[Member]) -> dict[str, object]:
    cells: dict[str, object] = {}
    for member in group:
        kind = PurePosixPath(member.image_ref.name).suffix.lower()
        if member.problem or kind not in (".json", ".txt", ".cls") or not member.image_ref.size:
            continue
        try:
            text = member.image_ref.read(_MAX_TEXT_BYTES).decode("utf-8-sig")
        except ImageError as error:
            raise ValueError(f"{member.image_ref.name} {error}") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{member.image_ref.name} is not UTF-8: byte {error.start}") from None
        if kind == ".json":
            cells.update(_object(text, member.image_ref.name))
        else:
            cells[_TEXT if kind == ".txt" else _CLASS] = (
                CellText(text.strip()) if kind == ".cls" else text.strip()
            )
    return {name: cell for name, cell in cells.items() if cell is not None and cell != ""}


def _object(text: str, name: str) -> dict[str, object]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError(f"{name} is a JSON {type(document).__name__}; expected an object")
    return document
