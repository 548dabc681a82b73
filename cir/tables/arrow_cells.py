"""Columns of Arrow as cells. Imports pyarrow when it is called.

Values are exact or bad cells: nothing here raises for what a cell holds. Moments and dates become RFC 3339
texts in UTC (without a zone they are in UTC already; digits beyond microseconds are cut), decimals whose type
has no fraction ints, UUIDs and other binary values of fixed length hexadecimal texts. Of structs only places
are values; maps, times of day, durations, binary values of any length and what other programs mean by numbers
(pandas' periods) are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from cir.extras import CLIENT, install
from cir.tables.cells import PLACE, BadCell, Unsupported, cell_of, shown

Cells = list[object]


def arrow() -> Any:
    """Return the module pyarrow.

    Raises:
        ModuleNotFoundError: it is not installed; the message says what to install.
    """
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"data frames need pyarrow; {install('frames', of=CLIENT)}", name=error.name
        ) from error
    return pyarrow


# A longer value of fixed length is data rather than an identifier.
MAX_HEX_BYTES = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = range(-62_135_596_800, 253_402_300_800)  # seconds from 0001-01-01 to the end of 9999-12-31
_GREGORIAN = -12_219_292_800  # seconds to 1582-10-15
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class Reading:
    """Way of reading a column: `binary` takes binary values of any length as texts in UTF-8.

    `julian` says that moments before 15 October 1582 are of the Julian calendar, as older versions of Spark
    write them: they are bad cells.
    """

    binary: bool = False
    julian: bool = False


PLAIN = Reading()


def column_cells(column: Any, millis: Any = None, how: Reading = PLAIN) -> Cells:
    """Return the cells of an Arrow array; None where one is empty.

    `millis` is the same column with its INT96 moments in milliseconds, which tell whether those in
    microseconds have overflowed.
    """
    import pyarrow.types as pt

    kind = column.type
    match kind:
        case _ if pt.is_null(kind):
            return [None] * len(column)
        case _ if pt.is_boolean(kind) or pt.is_integer(kind) or pt.is_floating(kind):
            return [cell_of(value) for value in column.to_pylist()]
        case _ if pt.is_decimal(kind):
            return [_decimal(value, kind.scale) for value in column.to_pylist()]
        case _ if is_text(kind):
            return _texts(column)
        case _ if pt.is_timestamp(kind):
            return _moments(column, kind.unit, millis, how)
        case _ if pt.is_date(kind):
            return _dates(column, how)
        case _ if pt.is_dictionary(kind):
            return column_cells(column.dictionary.take(column.indices), how=how)
        case _ if isinstance(kind, _extension_type()):
            if kind.extension_name == "arrow.uuid":
                return [_uuid(value) for value in column.storage.to_pylist()]
            if kind.extension_name == "arrow.bool8":
                return [None if value is None else bool(value) for value in column.storage.to_pylist()]
            if is_text(kind.storage_type):
                return _texts(column.storage)
        case _ if pt.is_fixed_size_binary(kind) and kind.byte_width <= MAX_HEX_BYTES:
            return [None if value is None else value.hex() for value in column.to_pylist()]
        case _ if how.binary and (pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind)):
            return [_decoded(value) for value in column.to_pylist()]
        case _ if _is_list(kind) and not _is_list(kind.value_type):
            return _lists(column, millis, how)
        case _ if pt.is_struct(kind) and {child.name for child in kind} == PLACE and kind.num_fields == 2:
            return _places(column)
    return unsupported_cells(column, str(kind))


def unsupported_cells(column: Any, name: str) -> Cells:
    """Return the cells of a column of a type that no payload field can hold."""
    what = Unsupported(f"a value of the type {name[:80]}{'…' * (len(name) > 80)}")
    return [what if valid else None for valid in column.is_valid().to_pylist()]


def is_text(kind: Any) -> bool:
    """Return whether an Arrow type is one of texts."""
    import pyarrow.types as pt

    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def _extension_type() -> Any:
    import pyarrow as pa

    return pa.BaseExtensionType


def _is_list(kind: Any) -> bool:
    import pyarrow.types as pt

    return any(
        test(kind)
        for test in (
            pt.is_list,
            pt.is_large_list,
            pt.is_fixed_size_list,
            pt.is_list_view,
            pt.is_large_list_view,
        )
    )


def _decimal(value: Decimal | None, scale: int) -> object:
    return int(value) if value is not None and scale <= 0 else value


def _uuid(value: bytes | None) -> str | None:
    return None if value is None else str(UUID(bytes=value))


def _texts(column: Any) -> Cells:
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:
        return [_decoded(value) for value in column.cast(_binary_twin(column.type)).to_pylist()]
    return [cell_of(value) for value in values]


def _binary_twin(kind: Any) -> Any:
    import pyarrow as pa
    import pyarrow.types as pt

    return pa.large_binary() if pt.is_large_string(kind) else pa.binary()


def _decoded(value: bytes | None) -> object:
    if value is None:
        return None
    try:
        return cell_of(value.decode())
    except UnicodeDecodeError as error:
        return BadCell(f"{shown(value)}, which is no text in UTF-8: byte {error.start + 1}")


def _moments(column: Any, unit: str, millis: Any, how: Reading) -> Cells:
    import pyarrow as pa

    per_second = _PER_SECOND[unit]
    ticks = column.cast(pa.int64()).to_pylist()
    cells = [None if tick is None else _moment(tick, per_second, how) for tick in ticks]
    if millis is not None and millis.type != column.type:
        for row, milli in enumerate(millis.cast(pa.int64()).to_pylist()):
            if milli is not None and milli != ticks[row] * 1000 // per_second:
                cells[row] = _outside(milli // 1000)
    return cells


def _moment(tick: int, per_second: int, how: Reading) -> object:
    seconds, rest = divmod(tick, per_second)
    if bad := _bad_moment(seconds, how):
        return bad
    moment = _EPOCH + timedelta(seconds=seconds, microseconds=rest * 1_000_000 // per_second)
    return f"{moment.replace(tzinfo=None).isoformat()}Z"


def _bad_moment(seconds: int, how: Reading) -> BadCell | None:
    if seconds not in _YEARS:
        return _outside(seconds)
    if how.julian and seconds < _GREGORIAN:
        return BadCell(
            "a moment before 1582 in the calendar of an older Spark; write the file again with "
            "spark.sql.parquet.datetimeRebaseModeInWrite and int96RebaseModeInWrite set to CORRECTED"
        )
    return None


def _dates(column: Any, how: Reading) -> Cells:
    import pyarrow as pa

    days = column.cast(pa.date32()).cast(pa.int32()).to_pylist()
    return [None if day is None else _date(day, how) for day in days]


def _date(day: int, how: Reading) -> object:
    return _bad_moment(day * 86_400, how) or (_EPOCH + timedelta(days=day)).date().isoformat()


def _outside(seconds: int) -> BadCell:
    return BadCell(f"the moment {seconds} s from 1970, outside the years 1 to 9999")


def _lists(column: Any, millis: Any, how: Reading) -> Cells:
    import pyarrow.compute as pc

    single = iter(column_cells(column.flatten(), None if millis is None else millis.flatten(), how))
    lengths = pc.list_value_length(column).to_pylist()
    return [None if length is None else _list([next(single) for _ in range(length)]) for length in lengths]


def _list(cells: Cells) -> object:
    return cell_of(cells)


def _places(column: Any) -> Cells:
    members = [column_cells(child) for child in column.flatten()]
    names = [child.name for child in column.type]
    valid = column.is_valid().to_pylist()
    return [
        cell_of(dict(zip(names, values, strict=True))) if there else None
        for there, *values in zip(valid, *members, strict=True)
    ]
