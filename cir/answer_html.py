"""Answers in notebooks: a contact sheet as one piece of HTML, which loads nothing and is bounded in bytes.

Locations of images come from the catalog, where anybody with the write scope may have written them. So images
are read only below the folders that the notebook's owner has named, by the rule of `cir.local_images`.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from cir.images.decode import Decoder, Fitting, ImageError
from cir.local_images import read_image, usable_folder
from cir.payload import GeoPoint, Value

if TYPE_CHECKING:
    from cir.models import Result, SearchAnswer

#: Bytes of a sheet.
MAX_BYTES = 1024 * 1024
#: Results in a sheet.
MAX_RESULTS = 60
# Longest side of an image in pixels, and of that what a tile is wide.
_SIDE = 224
_WIDTH = 160
_MAX_FIELDS = 8
_MAX_CHARACTERS = 60
_MAX_IMAGE_BYTES = 64 * 1024 * 1024
# Bytes that what stands around the tiles takes at most.
_FRAME_BYTES = 8 * 1024

_folders: list[Path] = []


def show_images_below(*folders: str | os.PathLike[str]) -> None:
    """Name the folders whose images notebooks may show with results; none shows none.

    Raises:
        ValueError: a folder that is relative, or the root of a file system.
    """
    usable = [usable_folder(folder) for folder in folders]
    for folder, found in zip(folders, usable, strict=True):
        if found is None:
            raise ValueError(
                f"{os.fspath(folder)!r} is no folder to show images of; give an absolute path below /"
            )
    _folders[:] = [found for found in usable if found is not None]


def answer_html(answer: SearchAnswer) -> str:
    """Return the contact sheet of an answer: at most `MAX_RESULTS` results and `MAX_BYTES` bytes in UTF-8."""
    tiles: list[str] = []
    left = MAX_BYTES - _FRAME_BYTES
    for result in answer.results[:MAX_RESULTS]:
        tile = _tile(result, None)
        if (size := len(tile.encode())) > left:
            break
        tiles.append(tile)
        left -= size
    # Images get the room that is left, best results first.
    for place, result in enumerate(answer.results[: len(tiles)]):
        if (image := _thumbnail(result.image)) is not None:
            tile = _tile(result, image)
            if (more := len(tile.encode()) - len(tiles[place].encode())) <= left:
                tiles[place], left = tile, left - more
    heading = f'<div style="margin-bottom:6px">{_heading(answer, len(tiles))}</div>'
    shown = f'<div style="display:flex;flex-wrap:wrap;gap:10px">{"".join(tiles)}</div>'
    return f'<div style="font:13px sans-serif">{heading}{shown}</div>'


def _heading(answer: SearchAnswer, shown: int) -> str:
    explanation = answer.explanation
    parts = [f"{len(answer)} results"]
    if shown < len(answer):
        parts.append(f"the first {shown} shown")
    parts += [f"{word} {_cut(text)}" for word, text in _facts(explanation.combiner, explanation.version)]
    if answer.timings.total is not None:
        parts.append(f"{answer.timings.total * 1000:.0f} ms")
    if not _folders and any(result.image for result in answer.results[:shown]):
        parts.append("cir.show_images_below(folder) shows images")
    return html.escape(", ".join(parts))


def _facts(combiner: str, version: str) -> list[tuple[str, str]]:
    return [(word, text) for word, text in (("combiner", combiner), ("version", version)) if text]


def _tile(result: Result, image: bytes | None) -> str:
    box = f"width:{_WIDTH}px;height:{_WIDTH}px;object-fit:contain;background:#f3f3f3;display:block"
    if image is None:
        picture = f'<div style="{box};color:#6b6b6b;text-align:center;line-height:{_WIDTH}px">no image</div>'
    else:
        data = base64.b64encode(image).decode()
        picture = f'<img style="{box}" alt="{_cut(result.id)}" src="data:image/jpeg;base64,{data}">'
    lines = [
        f"<b>{result.rank}.</b> {result.score:.3f}",
        f'<span title="{_cut(result.id, 300)}">{_cut(result.id)}</span>',
    ]
    lines += [f'<span style="color:#6b6b6b">{field}</span>' for field in _payload(result.payload)]
    text = "".join(
        f'<div style="overflow:hidden;text-overflow:ellipsis;white-space:nowrap">{line}</div>'
        for line in lines
    )
    return f'<div style="width:{_WIDTH}px">{picture}{text}</div>'


def _payload(payload: Mapping[str, Value]) -> list[str]:
    names = sorted(payload)
    lines = [f"{_cut(name, 30)}: {_cut(_shown(payload[name]))}" for name in names[:_MAX_FIELDS]]
    return lines + ([f"{len(names) - _MAX_FIELDS} more"] if len(names) > _MAX_FIELDS else [])


def _shown(value: Value) -> str:
    match value:
        case list() | tuple():
            return ", ".join(_shown(element)[:_MAX_CHARACTERS] for element in value[:_MAX_CHARACTERS])
        case datetime():
            return value.isoformat()
        case GeoPoint():
            return f"{value.latitude:g}, {value.longitude:g}"
    return str(value)


def _cut(text: str, length: int = _MAX_CHARACTERS) -> str:
    text = " ".join(text[: 4 * length].split())
    return html.escape(text if len(text) <= length else f"{text[: length - 1]}…")


def _thumbnail(location: str) -> bytes | None:
    """Return an image as a small JPEG; None where it is not below a named folder, or is no image."""
    if not location or not _folders:
        return None
    content = read_image(location, _folders, max_bytes=_MAX_IMAGE_BYTES)
    if content is None:
        return None
    read = Fitting(Decoder(max_bytes=_MAX_IMAGE_BYTES, draft_size=_SIDE), (_SIDE, _SIDE))
    try:
        image = Image.fromarray(read(content))
    except (ImageError, MemoryError):
        return None
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
