"""Images that are cut out of others."""

from __future__ import annotations

import io

from PIL import Image

from combiner_training.datasets.base import Box

#: Of a box's width and height, added on each side, as GeneCIS' authors do.
_MARGIN = 0.7


def cut_out(content: bytes, box: Box) -> bytes:
    """Return the part of an encoded image in and around a box, on a black square, as PNG.

    The part begins a margin to the left of the box and above it and is as wide and high as the box and one
    margin, as the authors' loader cuts it; it ends at the image's edges.

    Raises:
        ValueError: The image cannot be read, or the box is outside it.
    """
    left, top, width, height = box
    try:
        with Image.open(io.BytesIO(content)) as image:
            rgb = image.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot be read: {error}") from error
    from_left, from_top = max(0.0, left - _MARGIN * width), max(0.0, top - _MARGIN * height)
    to_right = min(float(rgb.width), from_left + (1 + _MARGIN) * width)
    to_bottom = min(float(rgb.height), from_top + (1 + _MARGIN) * height)
    if to_right - from_left < 1 or to_bottom - from_top < 1:
        raise ValueError(f"the box {list(box)} is outside the image of {rgb.width} x {rgb.height} pixels")
    part = rgb.crop((round(from_left), round(from_top), round(to_right), round(to_bottom)))
    side = max(part.size)
    square = Image.new("RGB", (side, side))
    square.paste(part, ((side - part.width) // 2, (side - part.height) // 2))
    out = io.BytesIO()
    square.save(out, "PNG", compress_level=1)
    return out.getvalue()
