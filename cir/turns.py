"""Turns of a query, and images as clients give them: paths, bytes or Pillow images."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import ArrayLike
from PIL import Image

from cir.channel import MAX_MESSAGE_BYTES
from cir.errors import InvalidArgument
from cir.images.upright import ORIENTATION_TAG, orientation_of, to_eight_bits, to_rgb
from cir.payload import texts
from cir.search.v1 import search_pb2 as pb
from cir.vectors import Features, to_batch

ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image

_PNG_MODES = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})


def encode_image(image: ImageSource) -> bytes:
    """The encoded image: a file's or the caller's bytes as they are, a PIL image as PNG (lossless).

    A PIL image of a mode that PNG lacks becomes one of 8 bits, as the embedder would make of it.

    Raises:
        InvalidArgument: a file that cannot be read, is empty, or is too large to send; a PIL image that is
            damaged or of a mode that cannot be converted.
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
        raise InvalidArgument(
            f"the PIL image of mode {image.mode} cannot be sent ({error}); give a whole one, best as RGB",
            reason="IMAGE_UNREADABLE",
            field="image",
        ) from error
    return buffer.getvalue()


def _in_png_mode(image: Image.Image) -> Image.Image:
    if image.has_transparency_data and not image.mode.startswith(("I", "F")):
        return image.convert("LA" if image.mode == "La" else "RGBA")
    image = to_eight_bits(image)
    return image.convert("L") if image.mode == "I" else image if image.mode == "L" else to_rgb(image)


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """A reference with a change, or a change to what the previous turn came to.

    At most one of `image` (path, bytes or PIL image), `item` (an id of the catalog) and `features` (raw,
    shape (d,)) is the reference; none continues from the previous turn. `text` is the change wanted, or
    alone a search by text. `liked` and `disliked` are item ids that the query moves towards and away
    from. `text_weight` moves the query between the reference (0) and the text (1); 0.5 (for slerp 0.6) is
    what the combiner answers without it.
    """

    image: ImageSource | None = None
    item: str = ""
    features: Features | ArrayLike | None = None
    text: str = ""
    liked: Sequence[str] = ()
    disliked: Sequence[str] = ()
    text_weight: float | None = None

    def message(self) -> pb.Turn:
        """The turn as it is sent; reads the image.

        Raises:
            InvalidArgument: the turn cannot be sent.
        """
        turn = pb.Turn(
            text=self.text,
            liked_item_ids=texts(self.liked, field="liked"),
            disliked_item_ids=texts(self.disliked, field="disliked"),
        )
        given = [name for name in ("image", "item", "features") if not _is_empty(getattr(self, name))]
        if len(given) > 1:
            raise InvalidArgument(
                f"a turn has one reference, this one has {' and '.join(given)}; use one turn for each",
                reason="FIELD_INVALID",
                field="reference",
            )
        if self.image is not None:
            turn.reference.image = encode_image(self.image)
        if self.item:
            turn.reference.item_id = self.item
        if self.features is not None:
            turn.reference.features.CopyFrom(to_batch(self.features))
        if self.text_weight is not None:
            turn.text_weight = self.text_weight
        return turn


def _is_empty(part: object) -> bool:
    return part is None or (isinstance(part, str) and not part)
