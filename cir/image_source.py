"""Images as callers have them: paths, bytes, file objects, Pillow images and numpy arrays."""

from __future__ import annotations

import inspect
import io
import os
import re
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cir.channel import MAX_MESSAGE_BYTES
from cir.errors import InvalidArgument
from cir.images.upright import ORIENTATION_TAG, orientation_of, to_eight_bits, to_rgb

ImageSource = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | NDArray[np.uint8]
)

_PNG_MODES = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})
# A scheme has two letters at least, so that no drive of Windows is one. Paths have lost a slash.
_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+):/.|data:", re.IGNORECASE)


def encode_image(image: ImageSource) -> bytes:
    """The encoded image: a file's or the caller's bytes as they are, pixels as PNG (lossless).

    A file object is read from where it stands. A PIL image of a mode that PNG lacks becomes one of 8 bits, as
    the embedder would make of it. An array is uint8, (H, W, 3) in RGB, (H, W, 4) in RGBA or (H, W) in grey.

    Raises:
        InvalidArgument: a file that cannot be read, is empty, or is too large to send; a URL; a PIL image
        that
            is damaged or of a mode that cannot be converted; an array of another type or shape.
    """
    match image:
        case Image.Image():
            return _png(image)
        case np.ndarray():
            return _png(_from_array(image))
        case bytes() | bytearray() | memoryview():
            if not (content := bytes(image)):
                raise _refused("the image has no bytes", "IMAGE_EMPTY")
            return content
        case str() | os.PathLike():
            return _read(os.fsdecode(image))
        case _ if callable(getattr(image, "read", None)):
            return _read_file(image)
    raise _refused(
        f"a {type(image).__name__} is no image; give a path, bytes, a file object opened in binary mode, a "
        "PIL image or a numpy array of uint8"
    )


def _read(location: str) -> bytes:
    path = Path(location)
    try:
        size = path.stat().st_size
        if size > MAX_MESSAGE_BYTES:
            raise _too_large(f"image {path} has {size} bytes")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidArgument):
            raise
        if found := _URL.match(location):
            raise _refused(_about_url(location, found["scheme"] or "data")) from error
        reason = getattr(error, "strerror", None) or str(error)
        raise _refused(f"image {path} cannot be read: {reason}") from error
    if not content:
        raise _refused(f"image {path} is empty", "IMAGE_EMPTY")
    return content


def _about_url(location: str, scheme: str) -> str:
    shown = f"{location[:100]}…" if len(location) > 100 else location
    match scheme.lower():
        case "data":
            return f"{shown!r} is a data URL; decode it (base64.b64decode) and give the bytes"
        case "file":
            return f"{shown!r} is a URL; give the file's path"
    return f"{shown!r} is a URL; URLs are not fetched: download the image and give its path or bytes"


def _read_file(file: Any) -> bytes:
    try:
        content = file.read(MAX_MESSAGE_BYTES + 1)
    except (OSError, ValueError, TypeError) as error:
        raise _refused(f"the file object cannot be read: {error}") from error
    if inspect.isawaitable(content):
        if inspect.iscoroutine(content):
            content.close()
        raise _refused("the file object is to be awaited; give the bytes that it reads")
    if isinstance(content, str):
        raise _refused("the file object reads texts; open it in binary mode (open(path, 'rb'))")
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise _refused(f"the file object reads a {type(content).__name__}; expected bytes")
    if not content:
        raise _refused("the file object has no bytes left; go back to its start with seek(0)", "IMAGE_EMPTY")
    if len(content) > MAX_MESSAGE_BYTES:
        raise _too_large("the file object has more bytes")
    return bytes(content)


def _from_array(array: NDArray[Any]) -> Image.Image:
    shape = array.shape
    if array.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))):
        hint = ""
        if array.dtype.kind == "f" and len(shape) in (2, 3):
            hint = "; of values from 0 to 1 make (array * 255).round().astype('uint8')"
        elif len(shape) == 3 and shape[0] in (1, 3, 4):
            hint = "; put the channels last with numpy.moveaxis(array, 0, -1)"
        raise _refused(
            f"an array of {array.dtype} and shape {shape} is no image; expected uint8 and (H, W, 3) in RGB, "
            f"(H, W, 4) in RGBA, or (H, W) in grey{hint}"
        )
    if not array.size:
        raise _refused(f"the array has the shape {shape} and no pixels", "IMAGE_EMPTY")
    return Image.fromarray(np.ascontiguousarray(array))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    try:
        image.load()
        # As `cir.images` does after loading. Pillow applies it only when asked to: it travels along.
        exif = Image.Exif()
        exif[ORIENTATION_TAG] = orientation_of(image)
        if image.mode not in _PNG_MODES:
            image = _in_png_mode(image)
        image.save(buffer, "PNG", compress_level=1, exif=exif)
    except (OSError, SyntaxError, TypeError, ValueError) as error:
        raise _refused(
            f"the PIL image of mode {image.mode} cannot be sent ({error}); give a whole one, best as RGB",
            "IMAGE_UNREADABLE",
        ) from error
    return buffer.getvalue()


def _in_png_mode(image: Image.Image) -> Image.Image:
    if image.has_transparency_data and not image.mode.startswith(("I", "F")):
        return image.convert("LA" if image.mode == "La" else "RGBA")
    image = to_eight_bits(image)
    return image.convert("L") if image.mode == "I" else image if image.mode == "L" else to_rgb(image)


def _too_large(what: str) -> InvalidArgument:
    return _refused(
        f"{what}, a message at most {MAX_MESSAGE_BYTES}; send a smaller one", "IMAGE_TOO_MANY_BYTES"
    )


def _refused(message: str, reason: str = "FIELD_INVALID") -> InvalidArgument:
    return InvalidArgument(message, reason=reason, field="image")
