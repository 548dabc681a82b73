"""Damage to serialized messages: what a broken, old or hostile client could send instead of a request."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Mutation = Callable[[bytes, random.Random, Sequence[bytes]], bytes]

_VARINTS = (
    b"\x00",
    b"\x01",
    b"\x7f",
    b"\x80\x01",
    b"\xff\xff\xff\xff\x0f",
    b"\xff" * 9 + b"\x01",
    b"\xff" * 11,
)
_MAX_BYTES = 1 << 20


def varint(value: int) -> bytes:
    """The wire form of an unsigned integer."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def spans(content: bytes, depth: int = 0, start: int = 0) -> list[tuple[int, int, int]]:
    """(start of the tag, start of the value, end) of each field, nested ones after their parents.

    Whatever is no message has no spans.
    """
    found: list[tuple[int, int, int]] = []
    place = 0
    while place < len(content):
        tag, value = _read_varint(content, place)
        if value is None or tag >> 3 == 0:
            return []
        match tag & 7:
            case 0:
                _, end = _read_varint(content, value)
            case 1:
                end = value + 8
            case 2:
                length, value = _read_varint(content, value)
                end = None if value is None else value + length
            case 5:
                end = value + 4
            case _:
                return []
        if value is None or end is None or end > len(content):
            return []
        found.append((start + place, start + value, start + end))
        if tag & 7 == 2 and depth < 8:
            found.extend(spans(content[value:end], depth + 1, start + value))
        place = end
    return found


def _read_varint(content: bytes, place: int) -> tuple[int, int | None]:
    number = shift = 0
    while place < len(content) and shift < 64:
        byte = content[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place
    return 0, None


def _flip_bits(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(source.choice((1, 1, 2, 8, 32))):
        changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
    return bytes(changed)


def _truncate(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    return content[: source.randrange(len(content) + 1)]


def _insert(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    place = source.randrange(len(content) + 1)
    return content[:place] + source.randbytes(source.choice((1, 2, 9, 300))) + content[place:]


def _splice(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    other = source.choice(others)
    return content[: source.randrange(len(content) + 1)] + other[source.randrange(len(other) + 1) :]


def _repeat(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    times = source.choice((2, 3, 300))
    return (content * times)[:_MAX_BYTES]


def _wrong_length(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    """A field's length, or its number, becomes an extreme one."""
    found = spans(content)
    if not found:
        return source.choice(_VARINTS) + content
    tag, value, _ = source.choice(found)
    return content[: tag + 1] + source.choice(_VARINTS) + content[value:]


def _wrong_type(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    """A field gets another wire type, the two that are not defined included."""
    found = spans(content)
    if not found:
        return bytes([8 | source.randrange(8)]) + content
    tag = source.choice(found)[0]
    return content[:tag] + bytes([content[tag] & ~7 | source.randrange(8)]) + content[tag + 1 :]


def _move_field(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    """A field's content goes to the end of the message under another number."""
    found = spans(content)
    if not found:
        return content
    _, value, end = source.choice(found)
    return content + field(source.choice((1, 2, 3, 4, 5, 6, 7, 15, 16)), content[value:end])


def _many_fields(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    """Very many empty fields, in the place of pictures, texts, turns or items."""
    return content + field(source.choice((1, 2, 3, 4)), b"") * source.choice((1, 300, 20_000))


def _unknown_fields(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    out = content
    for _ in range(source.choice((1, 3, 1000))):
        number = source.choice((17, 999, 18_999, 19_500, (1 << 29) - 1))
        out += source.choice(
            (
                field(number, source.randbytes(20)),
                varint(number << 3) + source.choice(_VARINTS[:5]),
                varint(number << 3 | 1) + source.randbytes(8),
                varint(number << 3 | 5) + source.randbytes(4),
                varint(number << 3 | 3) + varint(number << 3 | 4),
            )
        )
    return out


def _deep(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    """The message, or a group, inside itself: below and beyond what parsers allow."""
    levels = source.choice((10, 60, 99, 101, 2000))
    number = source.choice((1, 2, 3, 4, 5, 77))
    if source.random() < 0.3:
        return content + varint(number << 3 | 3) * levels + varint(number << 3 | 4) * levels
    inner = content[:200]
    for _ in range(levels):
        inner = field(number, inner)
    return content + inner


def _bad_text(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    """Bytes that are not UTF-8 in the place of some field's content, its length kept."""
    found = [span for span in spans(content) if span[2] > span[1]]
    if not found:
        return content + field(1, b"\xff\xfe")
    _, value, end = source.choice(found)
    return (
        content[:value]
        + bytes(source.choice((0x80, 0xC0, 0xED, 0xFF)) for _ in range(end - value))
        + content[end:]
    )


def _huge_counts(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    """Some field's content, or its empty one, as often as a message of a megabyte can hold it."""
    found = [span for span in spans(content) if span[2] - span[0] < 40]
    if not found:
        return field(source.randrange(1, 12), b"") * (_MAX_BYTES // 2)
    tag, _, end = source.choice(found)
    one = source.choice((content[tag:end], field(content[tag] >> 3 or 1, b"")))
    many = one * (_MAX_BYTES // len(one))
    # Inside the message that holds it: its length is written anew.
    outer = [span for span in spans(content) if span[1] <= tag and span[2] >= end and span[0] < tag]
    if not outer or source.random() < 0.5:
        return content[:tag] + many
    start = outer[-1][0]
    return content[:start] + field(content[start] >> 3 or 1, many)


def _nested_garbage(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    """Noise, another message or itself inside of some field, under lengths that are right."""
    inner = source.choice((source.randbytes(source.choice((1, 30, 70_000))), source.choice(others), content))
    for _ in range(source.choice((1, 2, 3, 8))):
        inner = field(source.choice((1, 2, 3, 4, 5, 7, 8)), inner)
    return content + inner


def _noise(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    return source.randbytes(source.choice((0, 1, 5, 100, 5000)))


MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits,
    _truncate,
    _insert,
    _splice,
    _repeat,
    _wrong_length,
    _wrong_type,
    _move_field,
    _many_fields,
    _unknown_fields,
    _deep,
    _bad_text,
    _huge_counts,
    _nested_garbage,
    _noise,
)


def mutate(content: bytes, source: random.Random, others: Sequence[bytes]) -> bytes:
    """One or a few mutations of a serialized message; `others` are what may be spliced into it."""
    for _ in range(source.choice((1, 1, 1, 2, 3))):
        content = source.choice(MUTATIONS)(content, source, others)[:_MAX_BYTES]
    return content
