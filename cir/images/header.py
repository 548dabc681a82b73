"""The cost of decoding an image file, told by its headers before anything is decoded.

JPEG, PNG and WebP state what their decoders will do: pixels, scans, chunks and frames bound time and memory.
The other formats do not (a header may claim less than the frame inside, blocks may be read in quadratic
time), so that their figures are only what is usual.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cir.images.formats import format_of

#: Scans of one JPEG. Progressive files have about 10; each scan is a pass over all pixels.
MAX_SCANS = 500

# More than cameras and programs write, and little enough to be gone through in a few milliseconds.
_MAX_SEGMENTS = 1000
_MAX_CHUNKS = 10_000
_MAX_INFLATED_CHUNKS = 16
_MAX_FRAMES = 1000
_MAX_ENTRIES = 1000
_EXIF = b"Exif\0\0"
_DIRECTORIES_OF_JPEG = (_EXIF, b"MPF\0")
_BYTES_OF_TYPE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}

# Bytes of memory a pixel: decoded by the formats' decoders, measured, the image itself with them.
_WEBP_BYTES = 17.0
_BYTES_A_PIXEL = {"GIF": 6.0, "BMP": 5.0, "TIFF": 12.0, "AVIF": 12.0, "HEIF": 12.0, "JPEG2000": 24.0}
_IMAGE_BYTES = 4.0
_ROW_BYTES = 32
_COEFFICIENT_BYTES = 2
_INFLATED_BYTES = 8 * 1024 * 1024
# Nanoseconds a pixel on a slow core, the resizing that follows with them.
_SCAN_NS = 4.0
_PNG_NS = 40.0
_WEBP_NS = 40.0


@dataclass(frozen=True, slots=True)
class Header:
    """The headers of an image file.

    `memory_bytes` is the memory that decoding takes at most, `image_bytes` what the decoded image takes of
    it, `seconds` its time on a slow core. They hold for certain only when `bounded`. Width and height are 0
    where they were not found; `scans` is the number of passes over a JPEG.
    """

    format: str = ""
    width: int = 0
    height: int = 0
    memory_bytes: int = 0
    image_bytes: int = 0
    seconds: float = 0.0
    bounded: bool = False
    scans: int = 0


def read_header(content: bytes, *, draft_size: int | None = None) -> Header:
    """Return what the headers of an image file tell; takes a few milliseconds at most.

    `draft_size` is that of the decoder.
    """
    form = format_of(content)
    try:
        match form:
            case "JPEG":
                return _read_jpeg(content, draft_size)
            case "PNG":
                return _read_png(content)
            case "WEBP":
                return _read_webp(content)
            case "":
                return Header()
        width, height = _size(form, content)
    except (struct.error, IndexError, ValueError):
        return Header(form)
    memory = width * height * _BYTES_A_PIXEL[form] + height * _ROW_BYTES
    image = int(width * height * _IMAGE_BYTES)
    return Header(form, width, height, int(memory) + 2 * len(content), image)


def _read_jpeg(content: bytes, draft_size: int | None) -> Header:
    position, width, height = 2, 0, 0
    progressive, sound = False, True
    directories: list[bytes] = []
    components: list[tuple[int, int]] = []
    for _ in range(_MAX_SEGMENTS):
        while content[position] == 0xFF and content[position + 1] == 0xFF:
            position += 1
        if content[position] != 0xFF:
            return Header("JPEG")
        marker = content[position + 1]
        (length,) = struct.unpack_from(">H", content, position + 2)
        if marker in range(0xC0, 0xD0) and marker not in (0xC4, 0xC8, 0xCC):
            if components:
                return Header("JPEG")
            height, width = struct.unpack_from(">HH", content, position + 5)
            count = content[position + 9]
            factors = content[position + 11 : position + 11 + 3 * count : 3]
            components = [(factor >> 4 or 1, factor & 15 or 1) for factor in factors]
            progressive = marker in (0xC2, 0xC6, 0xCA, 0xCE)
        elif marker == 0xDA:
            break
        for prefix in _DIRECTORIES_OF_JPEG:
            if content.startswith(prefix, position + 4):
                # Pillow joins several of one kind.
                sound = sound and prefix not in directories
                sound = sound and is_sound(content[position + 4 + len(prefix) : position + 2 + length])
                directories.append(prefix)
        position += 2 + length
    else:
        return Header("JPEG", width, height)
    if not components:
        return Header("JPEG")
    # The two bytes that begin a scan occur nowhere inside the data of one, so that none is missed.
    scans = content.count(b"\xff\xda")
    buffered = progressive or content[position + 4] < len(components)
    scale = _draft_scale(width, height, draft_size)
    across, down = max(h for h, _ in components), max(v for _, v in components)
    samples = sum(h * v for h, v in components) / (across * down)
    coded = _up(width, 8 * across) * _up(height, 8 * down)
    channel_bytes = 1.0 if len(components) == 1 else _IMAGE_BYTES
    image = int(width * height / scale**2 * channel_bytes)
    memory = image + height * _ROW_BYTES
    if buffered:
        memory += int(coded * samples * _COEFFICIENT_BYTES)
    passes = scans if buffered else 1
    seconds = coded * (passes + 1) * _SCAN_NS / 1e9
    memory += len(content)
    return Header("JPEG", width, height, memory, image, seconds, bounded=sound, scans=scans)


def _draft_scale(width: int, height: int, draft_size: int | None) -> int:
    if draft_size is None:
        return 1
    return next((scale for scale in (8, 4, 2) if min(width, height) // scale >= draft_size), 1)


def _up(side: int, block: int) -> int:
    return -(-side // block) * block


def _read_png(content: bytes) -> Header:
    position, chunks, inflated = 8, 0, 0
    width, height = struct.unpack_from(">II", content, 16)
    bits, colour = content[24], content[25]
    bounded = content[12:16] == b"IHDR"
    while position + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        if kind == b"IEND":
            break
        # A second header would replace the first.
        bounded = bounded and (kind != b"IHDR" or position == 8)
        inflated += kind in (b"iCCP", b"zTXt", b"iTXt")
        if kind == b"eXIf":
            bounded = bounded and is_sound(content[position + 8 : position + 8 + length])
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            # EXIF data written out as text.
            bounded = bounded and not content.startswith(b"Raw profile", position + 8)
        chunks += 1
        if chunks > _MAX_CHUNKS:
            break
        position += 12 + length
    bounded = bounded and chunks <= _MAX_CHUNKS and inflated <= _MAX_INFLATED_CHUNKS
    channel_bytes = _IMAGE_BYTES if colour in (2, 4, 6) else 1.0 if bits <= 8 else 3.0
    image = int(width * height * channel_bytes)
    memory = image + height * _ROW_BYTES + inflated * _INFLATED_BYTES + len(content)
    seconds = width * height * _PNG_NS / 1e9
    return Header("PNG", width, height, memory, image, seconds, bounded=bounded)


def _read_webp(content: bytes) -> Header:
    width, height = webp_size(content)
    position, chunks, sound = 12, 0, True
    while position + 8 <= len(content) and chunks <= _MAX_FRAMES:
        kind, length = struct.unpack_from("<4sI", content, position)
        if kind == b"EXIF":
            sound = sound and is_sound(content[position + 8 : position + 8 + length].removeprefix(_EXIF))
        position += 8 + length + length % 2
        chunks += 1
    bounded = width > 0 and sound and chunks <= _MAX_FRAMES
    memory = width * height * _WEBP_BYTES + height * _ROW_BYTES + 2 * len(content)
    image, seconds = int(width * height * _IMAGE_BYTES), width * height * _WEBP_NS / 1e9
    return Header("WEBP", width, height, int(memory), image, seconds, bounded=bounded)


def webp_size(content: bytes) -> tuple[int, int]:
    """Return the width and height that a WebP file claims; 0 x 0 for any other file, or a damaged one.

    Its decoder takes memory for the whole canvas when it is opened, before Pillow reports the size.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return 0, 0
    match content[12:16]:
        case b"VP8X" if len(content) >= 30:
            return _little(content[24:27]) + 1, _little(content[27:30]) + 1
        case b"VP8 " if content[23:26] == b"\x9d\x01\x2a":
            return _little(content[26:28]) & 0x3FFF, _little(content[28:30]) & 0x3FFF
        case b"VP8L" if content[20:21] == b"\x2f":
            bits = _little(content[21:25])
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return 0, 0


def _little(part: bytes) -> int:
    return int.from_bytes(part, "little")


def is_sound(exif: bytes) -> bool:
    """Return True when reading EXIF data takes no more memory than a small multiple of its bytes.

    Every entry of its directory names an offset and a length, so that thousands of them may copy the same
    bytes.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        # No directory at all: nothing is read.
        return exif[2:4] not in (b"+\0", b"\0+")
    (start,) = struct.unpack_from(order + "I", exif, 4)
    if start + 2 > len(exif):
        return True
    (entries,) = struct.unpack_from(order + "H", exif, start)
    if entries > _MAX_ENTRIES:
        return False
    read = 0
    for position in range(start + 2, min(start + 2 + 12 * entries, len(exif) - 11), 12):
        _, kind, count = struct.unpack_from(order + "HHI", exif, position)
        size = _BYTES_OF_TYPE.get(kind, 0) * count
        read += size if size <= len(exif) else 0
    return read <= 4 * len(exif)


def _size(form: str, content: bytes) -> tuple[int, int]:
    """Return the size that the first header of another format claims; 0 x 0 where there is none."""
    match form:
        case "GIF":
            width, height = struct.unpack_from("<HH", content, 6)
            return width, height
        case "BMP":
            width, height = struct.unpack_from("<ii", content, 18)
            return abs(width), abs(height)
        case "TIFF":
            return _tiff_size(content)
        case "AVIF" | "HEIF":
            # The box "ispe" holds the size of an image or of one of its parts: the largest counts.
            found, position = (0, 0), content.find(b"ispe")
            for _ in range(_MAX_FRAMES):
                if position < 0:
                    break
                width, height = struct.unpack_from(">II", content, position + 8)
                found = max(found, (width, height), key=lambda size: size[0] * size[1])
                position = content.find(b"ispe", position + 4)
            return found
        case "JPEG2000":
            if content.startswith(b"\xff\x4f"):
                right, bottom, left, top = struct.unpack_from(">IIII", content, 8)
                return max(0, right - left), max(0, bottom - top)
            height, width = struct.unpack_from(">II", content, content.index(b"ihdr") + 4)
            return width, height
    return 0, 0


def _tiff_size(content: bytes) -> tuple[int, int]:
    order = "<" if content.startswith(b"II") else ">"
    if content[2:4] in (b"\x2b\0", b"\0\x2b"):
        return 0, 0
    (position,) = struct.unpack_from(order + "I", content, 4)
    (count,) = struct.unpack_from(order + "H", content, position)
    sides = {256: 0, 257: 0}
    for entry in range(min(count, 64)):
        tag, kind = struct.unpack_from(order + "HH", content, position + 2 + 12 * entry)
        if tag in sides:
            layout = "H" if kind == 3 else "I"
            (sides[tag],) = struct.unpack_from(order + layout, content, position + 10 + 12 * entry)
    return sides[256], sides[257]
