"""Tar shards in the layout of WebDataset: members of one key, one after the other, make an item.

Nothing is unpacked: a member is referred to by its place in the shard."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath

from cir.fields import FieldType
from cir.member_names import PassedOver, is_image_name, reason_for_file, reason_for_path
from cir.tables.cells import BadCell, CellText, cell_of, parse_json, text_cell
from cir.tables.columns import Columns, ColumnTypes, UnusableValue
from indexer.errors import SourceError
from indexer.rejects import IMAGE_MISSING, IMAGE_NOT_READABLE, PAYLOAD_INVALID, ROW_MALFORMED, Reject
from indexer.sources.base import ImageError, Source, SourceFacts, SourceItem
from indexer.sources.image_folders import fold_folders
from indexer.sources.passed_over import PassedOverCount
from indexer.sources.shard import Member, members

_MAX_TEXT_BYTES = 1024 * 1024
_TEXT, _CLASS = "text", "cls"
_PAYLOAD = (".json", ".txt", ".cls")


class TarSource(Source):
    """Shards of uncompressed tar files, in the order of their names; nothing is unpacked.

    The key of a member is its path up to the first dot of its file name; it is the item's id, so it must be
    unique over all shards. The image is the member with an image's extension; `.json` holds the payload as
    an object, `.txt` becomes its field `text`, `.cls` its field `cls`. All others are passed over and
    counted, as are names that are no member of any data set (`cir.member_names`). Values are cells as
    those of a manifest are (`cir.tables.cells`). Links, devices and names that lead elsewhere are
    rejects.
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
        self._columns: Columns | None = None
        self._chosen: frozenset[str] = frozenset()
        first = self._shards[0]
        self.beside = first.with_name(first.stem if len(self._shards) == 1 else "shards")

    def survey(self, columns: Sequence[str] = ()) -> SourceFacts:
        """Find types and count items.

        Raises:
            SourceError: a shard is missing or damaged, or a typed or chosen field is not there.
        """
        return self._survey(columns)[0]

    def _survey(self, columns: Sequence[str]) -> tuple[SourceFacts, Columns]:
        self._chosen = frozenset(columns)
        types, total, names = ColumnTypes(), 0, set[str]()
        passed_over, unfinished = PassedOverCount(), list[str]()
        for _, group in self._groups(passed_over, unfinished.append):
            total += 1
            try:
                cells = _cells(group)
            except ValueError:
                continue  # reported as a reject when the items come
            names |= cells.keys()
            types.see(self._wanted(cells), total)
        if not total:
            seen = passed_over.files()
            others = f"; passed over: {seen.text}" if seen.counts else ""
            raise SourceError(
                f"{self.name} holds no items; expected members such as 000001.jpg and 000001.json{others}"
            )
        found = types.columns(self._given, self._chosen)
        fields = types.seen.keys() - found.left_out
        if unknown := sorted((self._given.keys() - fields) | (self._chosen - names)):
            raise SourceError(f"{self.name} has no payload field {unknown[0]!r}; there are: {sorted(fields)}")
        self._columns = found
        # Without a base the location is a place in a shard, which is no file of its own.
        folders = fold_folders([os.path.dirname(self._base)] if self._base else [])
        facts = SourceFacts(
            total=total,
            schema=found.schema,
            notes=(*found.notes, *unfinished),
            image_folders=folders,
            passed_over=passed_over.files(),
        )
        return facts, found

    def items(self) -> Iterator[SourceItem | Reject]:
        """The items; `survey` comes first where it was not called yet."""
        columns = self._columns or self._survey(())[1]
        for number, (key, group) in enumerate(self._groups(), start=1):
            yield self._item(key, group, columns, f"row {number}")

    def _wanted(self, cells: Mapping[str, object]) -> dict[str, object]:
        return {
            name: cell
            for name, cell in cells.items()
            if cell is not None and (not self._chosen or name in self._chosen)
        }

    def _item(self, key: str, group: Sequence[Member], columns: Columns, row: str) -> SourceItem | Reject:
        where = str(group[0].image_ref)
        for member in group:
            if member.problem:
                return Reject(key, where, IMAGE_NOT_READABLE, f"{member.image_ref}: {member.problem}")
        image_refs = [member.image_ref for member in group if is_image_name(member.image_ref.name)]
        if not image_refs:
            names = ", ".join(ascii(member.image_ref.name)[1:-1][-200:] for member in group[:5])
            message = f"{where}: no member of this key is an image that is read; there are: {names}"
            return Reject(key, where, IMAGE_MISSING, message)
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
        try:
            payload = columns.payload(self._wanted(cells))
        except UnusableValue as error:
            return Reject(key, image, PAYLOAD_INVALID, f"{row}: {error}")
        return SourceItem(key, image_ref, image, payload, row)

    def _groups(
        self, passed_over: PassedOverCount | None = None, remark: Callable[[str], None] = lambda text: None
    ) -> Iterator[tuple[str, list[Member]]]:
        """Yield the members of each key that is an item; all others are passed over."""
        count = passed_over or PassedOverCount()
        for shard in self._shards:
            for key, group in groupby(_usable(members(shard, remark), count), key=_key):
                of_key = list(group)
                # With a payload and without an image it is an item that cannot be read: a reject.
                if any(member.problem or _reason(member) is None for member in of_key):
                    yield key, of_key
                for member in of_key:
                    if not member.problem and (reason := _reason(member)):
                        count.add(reason, member.image_ref.short)


def _usable(found: Iterator[Member], passed_over: PassedOverCount) -> Iterator[Member]:
    """Leave out what is no member by its name, so that it does not stand between members of one key."""
    for member in found:
        if reason := reason_for_path(member.image_ref.name):
            passed_over.add(reason, member.image_ref.short)
        else:
            yield member


def _reason(member: Member) -> PassedOver | None:
    """Return why a member is no part of an item; None for images and for what makes the payload."""
    name = member.image_ref.name
    return None if PurePosixPath(name).suffix.lower() in _PAYLOAD else reason_for_file(name)


def _key(member: Member) -> str:
    path = PurePosixPath(member.image_ref.name)
    return str(path.parent / path.name.partition(".")[0])


def _cells(group: Sequence[Member]) -> dict[str, object]:
    cells: dict[str, object] = {}
    for member in group:
        kind = PurePosixPath(member.image_ref.name).suffix.lower()
        if member.problem or kind not in _PAYLOAD or not member.image_ref.size:
            continue
        try:
            text = member.image_ref.read(_MAX_TEXT_BYTES).decode("utf-8-sig", errors="surrogateescape")
        except ImageError as error:
            raise ValueError(f"{member.image_ref.name} {error}") from None
        if kind == ".json":
            cells.update(_object(text, member.image_ref.name))
        else:
            cells[_TEXT if kind == ".txt" else _CLASS] = text_cell(
                CellText(text.strip()) if kind == ".cls" else text.strip()
            )
    return cells


def _object(text: str, name: str) -> dict[str, object]:
    try:
        document = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{name} is no JSON: {error}") from None
    if isinstance(document, BadCell):
        raise ValueError(f"{name} has {document.problem}")
    if not isinstance(document, dict):
        raise ValueError(f"{name} is a JSON {type(document).__name__}; expected an object")
    return {field: cell_of(value) for field, value in document.items()}
