"""Pictures as callers have them, to the bytes that are sent."""

from __future__ import annotations

import io
import os
from pathlib import Path

from PIL import Image

from cir.channel import MAX_MESSAGE_BYTES
from cir.errors import InvalidArgument

ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image

_PNG_MODES = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})


def encode_image(image: ImageSource) -> bytes:
    """The encoded picture: a file's or the caller's bytes as they are, a PIL image as PNG (lossless).

    Raises `InvalidArgument` for a file that cannot be read, is empty, or is too large to send.
    """
    if isinstance(image, Image.Image):
        return _png(image)
    if isinstance(image, (bytes, bytearray, memoryview)):
        content = bytes(image)
        if not content:
            raise InvalidArgument("the image has no bytes", reason="IMAGE_EMPTY", field="image")
        return content
    if isinstance(image, (str, os.PathLike)):
        return _read(Path(image))
    raise InvalidArgument(
        f"a {type(image).__name__} is no image; give a path, bytes or a PIL image",
        reason="FIELD_INVALID",
        field="image",
    )


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_MESSAGE_BYTES:
            raise InvalidArgument(
                f"image {path} has {size} bytes, a message at most {MAX_MESSAGE_BYTES}; send a smaller one",
                reason="IMAGE_TOO_MANY_BYTES",
                field="image",
            )
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidArgument(
            f"image {path} cannot be read: {reason}", reason="FIELD_INVALID", field="image"
        ) from error
    if not content:
        raise InvalidArgument(f"image {path} is empty", reason="IMAGE_EMPTY", field="image")
    return content


def _png(image: Image.Image) -> bytes:
    # Pillow applies the orientation of a camera's EXIF only when asked to: it has to travel along.
    exif = image.getexif()
    if image.mode not in _PNG_MODES:
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1, exif=exif)
    return buffer.getvalue()
