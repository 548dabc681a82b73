"""A walk over a serialised message that counts its parts before any object is built of them.

Two bytes can stand for an empty message inside a message, and the parser makes an object of a hundred bytes
of each. So large messages are counted first, against the message's descriptor: every field that occurs is a
part, at any depth. Content of texts and bytes is skipped. A walk can be interrupted and resumed.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

#: As deep as the parser goes.
MAX_DEPTH = 100

# What costs the parser most for a byte: runs of fields of two or three bytes, counted at the speed of `re`.
# Possessive, since `re` keeps some 60 bytes for each round of a group that it may have to take back.
_LENGTH_TAGS, _NUMBER_TAGS = (
    b"[" + b"".join(re.escape(bytes([number << 3 | kind])) for number in range(1, 16)) + b"]"
    for kind in (2, 0)
)
_RUNS = (
    re.compile(b"(?:" + _LENGTH_TAGS + b"\\x00){4,}+", re.DOTALL),
    re.compile(b"(?:" + _LENGTH_TAGS + b"\\x01.){4,}+", re.DOTALL),
)
_NUMBERS = re.compile(b"(?:" + _NUMBER_TAGS + b"[\\x00-\\x7f]){4,}+", re.DOTALL)

# By tag of a field with a length: the same table of a message, or the name of a text.
_Table = dict[int, Any]


class MalformedError(ValueError):
    """Bytes that are no message, or one with groups, which no contract of ours has."""


class TooManyPartsError(ValueError):
    """A message with more parts than are counted."""


class TextTooLongError(ValueError):
    """A text that is longer than any that is taken; the argument is the field's name."""


@cache
def _table(kind: Descriptor) -> _Table:
    table: _Table = {}
    _fill(kind, table, {kind.full_name: table})
    return table


def _fill(kind: Descriptor, table: _Table, known: dict[str, _Table]) -> None:
    for field in kind.fields:
        tag = field.number << 3 | 2
        inner = field.message_type
        if inner is None:
            if field.type == FieldDescriptor.TYPE_STRING:
                table[tag] = field.name
        elif inner.full_name in known:
            table[tag] = known[inner.full_name]
        else:
            table[tag] = known[inner.full_name] = {}
            _fill(inner, table[tag], known)


class WireWalk:
    """The walk over one message."""

    def __init__(
        self,
        content: bytes,
        kind: Descriptor,
        *,
        max_parts: int,
        max_text_bytes: int,
        max_inner_text_bytes: int | None = None,
    ) -> None:
        """Begin a walk; texts of messages inside the message have a bound of their own where one is given."""
        self.parts = 0
        self._content = content
        self._max_parts = max_parts
        self._max_text_bytes = max_text_bytes
        self._max_inner_text_bytes = max_text_bytes if max_inner_text_bytes is None else max_inner_text_bytes
        self._place = 0
        self._end = len(content)
        self._table = _table(kind)
        self._stack: list[tuple[int, _Table]] = []

    def advance(self, parts: int) -> bool:
        """Count up to `parts` more; return True when the whole message has been counted.

        Raises:
            MalformedError: the bytes are no message.
            TooManyPartsError: there are more than `max_parts`.
            TextTooLongError: a text has more than `max_text_bytes`.
        """
        content, stack, max_text_bytes = self._content, self._stack, self._max_text_bytes
        place, end, table, count = self._place, self._end, self._table, self.parts
        pause = min(count + parts, self._max_parts + 1)
        try:
            while count < pause:
                if place >= end:
                    if place > end:
                        raise MalformedError
                    if not stack:
                        self.parts = count
                        return True
                    end, table = stack.pop()
                    continue
                count += 1
                tag = content[place]
                place += 1
                if tag > 127:
                    tag, place = _varint(content, place - 1)
                match tag & 7:
                    case 2:
                        size = content[place]
                        place += 1
                        if size > 127:
                            size, place = _varint(content, place - 1)
                        inner = table.get(tag)
                        if inner is None or not size:
                            place += size
                            if size < 2:
                                last = min(end, place + (2 + size) * (pause - count))
                                if run := _RUNS[size].match(content, place, last):
                                    count += (run.end() - place) // (2 + size)
                                    place = run.end()
                        elif inner.__class__ is str:
                            if size > (self._max_inner_text_bytes if stack else max_text_bytes):
                                raise TextTooLongError(inner)
                            place += size
                            if size == 1:
                                last = min(end, place + 3 * (pause - count))
                                if run := _RUNS[1].match(content, place, last):
                                    count += (run.end() - place) // 3
                                    place = run.end()
                        else:
                            if place + size > end or len(stack) >= MAX_DEPTH:
                                raise MalformedError
                            stack.append((end, table))
                            end, table = place + size, inner
                    case 0:
                        if content[place] < 128:
                            place += 1
                            last = min(end, place + 2 * (pause - count))
                            if run := _NUMBERS.match(content, place, last):
                                count += (run.end() - place) // 2
                                place = run.end()
                        else:
                            _, place = _varint(content, place)
                    case 5:
                        place += 4
                    case 1:
                        place += 8
                    case _:
                        raise MalformedError
        except IndexError:
            raise MalformedError from None
        if count > self._max_parts:
            raise TooManyPartsError
        self._place, self._end, self._table, self.parts = place, end, table, count
        return False


def _varint(content: bytes, place: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte = content[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise MalformedError
