"""From the bytes of an image file to a decoded Pillow image, within limits and without surprises.

Sizes are checked from the header, before pixels are decoded and before memory is taken for them. The list of
formats is closed: Pillow tries no other format, so none that runs another program (EPS) or reads other files
is ever opened."""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError, features

from cir.common.v1 import errors_pb2 as pb
from service_runtime.errors import ServiceError

if TYPE_CHECKING:
    from embedder_service.settings import EmbedderSettings

# Pillow's own bomb check is a global that warns; the limits of the decoder are its own and refuse.
Image.MAX_IMAGE_PIXELS = None
# Text and colour profile of a PNG, inflated. Pillow's 1 MiB refuses images with a large profile.
PngImagePlugin.MAX_TEXT_CHUNK = 8 * 1024 * 1024


def _register_heif() -> bool:
    """Register Pillow's reader of HEIC, a separate package (the extra [heif]); return False without it."""
    try:
        register: Callable[[], None] = importlib.import_module("pillow_heif").register_heif_opener
    except ImportError:
        return False
    register()
    return True


FORMATS: tuple[str, ...] = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    *(("AVIF",) if features.check("avif") else ()),
    *(("JPEG2000",) if features.check("jpg_2000") else ()),
    *(("HEIF",) if _register_heif() else ()),
)
"""Formats that are read, by Pillow's names; JPEG includes the MPO files of phones and stereo cameras."""

# First bytes of image files, to tell a damaged image from something else.
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAGIC_JPEG2000 = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n")
_BRANDS = {
    "AVIF": (b"avif", b"avis"),
    "HEIF": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
}


def looks_like_an_image(content: bytes) -> bool:
    """Return True when the bytes begin like a file of one of `FORMATS`."""
    riff = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    jpeg2000 = "JPEG2000" in FORMATS and content.startswith(_MAGIC_JPEG2000)
    boxed = any(name in FORMATS and _has_brand(content, name) for name in _BRANDS)
    return riff or jpeg2000 or boxed or content.startswith(_MAGIC)


def is_heif(content: bytes) -> bool:
    """Return True when the bytes begin like HEIC, be it read here or not."""
    return _has_brand(content, "HEIF")


def webp_canvas(content: bytes) -> tuple[int, int]:
    """Return the width and height that an extended WebP file claims; 0 x 0 for any other file.

    Its decoder takes memory for the whole canvas when it is opened, before Pillow reports the size.
    """
    if content[:4] != b"RIFF" or content[8:16] != b"WEBPVP8X" or len(content) < 30:
        return 0, 0
    width, height = (int.from_bytes(content[start : start + 3], "little") + 1 for start in (24, 27))
    return width, height


def _has_brand(content: bytes, name: str) -> bool:
    return content[4:8] == b"ftyp" and content[8:12] in _BRANDS[name]


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale greyscale of 16 or 32 bits, or of floating point, to 8 bits; return other images unchanged.

    Pillow's own conversion would clip it to white. 16-bit files are scaled by their type. The wider types do
    not state their range, so it is taken from the brightest pixel: up to 1 (floating point only), up to 255,
    or up to 65,535, beyond which they are clipped.
    """
    if image.mode == "F":
        levels = np.nan_to_num(np.asarray(image), nan=0.0)
        brightest = levels.max()
        white = 1.0 if brightest <= 1 else 255.0 if brightest < 256 else 65_535.0
        return Image.fromarray((np.clip(levels, 0, white) * np.float32(255 / white)).round().astype(np.uint8))
    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image)
    if image.mode == "I" and levels.max() < 256:
        return image
    return Image.fromarray((np.clip(levels, 0, 65_535) >> 8).astype(np.uint8))


def flatten(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Put an RGB colour under transparent pixels; return an image without any unchanged."""
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    lowest, _ = layer.getchannel("A").getextrema()
    if lowest == 255:
        # Nothing shows through: leave the image as it is, so that it is treated as published.
        return image
    ground = Image.new("RGBA", layer.size, (*background, 255))
    ground.alpha_composite(layer)
    return ground.convert("RGB")


_ORIENTATION_TAG = 0x0112
_TRANSPOSE_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Decoder:
    """Limits and options of decoding.

    Images of more than `max_bytes` or `max_pixels` (width times height) are refused. `orient` turns the image
    as its EXIF orientation says; the published transform does not. `background` is the RGB colour under
    transparent pixels; None drops the alpha channel, as the published transform does. `draft_size` lets the
    JPEG decoder skip detail as long as the short side keeps at least that many pixels: faster, and no longer
    identical to a full decode in every pixel.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 64_000_000
    orient: bool = True
    background: tuple[int, int, int] | None = (255, 255, 255)
    draft_size: int | None = None

    def check_bytes(self, size: int) -> None:
        """Check the length of an encoded image.

        Raises:
            ServiceError: IMAGE_EMPTY, IMAGE_TOO_MANY_BYTES.
        """
        if size == 0:
            raise ServiceError(pb.IMAGE_EMPTY, "the image has no bytes; send an encoded image")
        if size > self.max_bytes:
            raise ServiceError(
                pb.IMAGE_TOO_MANY_BYTES,
                f"the image has {size} bytes, the limit is {self.max_bytes}; send a smaller one",
            )

    def __call__(self, content: bytes) -> Image.Image:
        """Return the first frame of an encoded image, decoded.

        Its mode is the file's own unless transparency was flattened (then RGB) or greyscale of more than 8
        bits was scaled (then L): the conversion to RGB belongs to preprocessing.

        Raises:
            ServiceError: IMAGE_EMPTY, IMAGE_TOO_MANY_BYTES, IMAGE_TOO_MANY_PIXELS, IMAGE_UNREADABLE (not an
                image of a supported format), IMAGE_TRUNCATED (damaged), or OVERLOADED when there is no memory
                for it.
        """
        self.check_bytes(len(content))
        _silence_pillow()
        try:
            return self._decode(content)
        except MemoryError as error:
            raise ServiceError(
                pb.OVERLOADED,
                "there is no memory to decode the image; try again later or send a smaller one",
                retry_after=1.0,
            ) from error

    def _decode(self, content: bytes) -> Image.Image:
        self._check_pixels(*webp_canvas(content))
        image = _open(content)
        self._check_size(image)
        orientation = _orientation(image) if self.orient else 1
        if self.draft_size is not None:
            image.draft(image.mode, (self.draft_size, self.draft_size))
        try:
            image.load()
        except MemoryError:
            raise
        except Exception as error:
            # Pillow's codecs raise many kinds of errors: OSError, SyntaxError, struct.error, ...
            raise ServiceError(
                pb.IMAGE_TRUNCATED,
                f"the {image.format} image ends early or is damaged ({error}); send the whole file",
            ) from error
        if image.mode in ("P", "PA") and image.palette is None:
            raise ServiceError(
                pb.IMAGE_TRUNCATED, f"the {image.format} image lacks its palette; send the whole file"
            )
        # Frames of some formats may be larger than the file's header says.
        self._check_size(image)
        try:
            image = to_eight_bits(image)
            if self.background is not None:
                image = flatten(image, self.background)
        except (ValueError, TypeError, OSError) as error:
            raise ServiceError(
                pb.IMAGE_UNREADABLE,
                f"images of pixel format {image.mode} are not read ({error}); send 8-bit RGB",
            ) from error
        transpose = _TRANSPOSE_BY_ORIENTATION.get(orientation)
        return image if transpose is None else image.transpose(transpose)

    def _check_size(self, image: Image.Image) -> None:
        width, height = image.size
        if width < 1 or height < 1:
            raise ServiceError(
                pb.IMAGE_UNREADABLE, f"the image has {width} x {height} pixels; none can be read"
            )
        self._check_pixels(width, height)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            self._check_pixels(*_tile_size(image), part="a tile of the image")

    def _check_pixels(self, width: int, height: int, part: str = "the image") -> None:
        if width * height > self.max_pixels:
            raise ServiceError(
                pb.IMAGE_TOO_MANY_PIXELS,
                f"{part} has {width} x {height} pixels, the limit is {self.max_pixels}; send a smaller one",
            )


def _open(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except MemoryError:
        raise
    except Exception as error:
        # As above: a damaged header makes Pillow raise many kinds, not only UnidentifiedImageError.
        if looks_like_an_image(content):
            cause = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
            raise ServiceError(
                pb.IMAGE_TRUNCATED,
                f"the bytes begin like an image, but the header is damaged, cut short or of a kind that is "
                f"not read{cause}; send the whole file, best as JPEG or PNG",
            ) from error
        hint = " (HEIC: the service lacks its extra [heif])" if is_heif(content) else ""
        raise ServiceError(
            pb.IMAGE_UNREADABLE,
            f"the bytes are not an image that is read{hint}; formats that are read: {', '.join(FORMATS)}",
        ) from error


def _tile_size(image: TiffImagePlugin.TiffImageFile) -> tuple[int, int]:
    """Return the width and height of a tile: libtiff takes memory for it whatever the image's own size."""
    width, height = (
        image.tag_v2.get(tag, 0) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)
    )
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        # An image whose pixels are fine is not refused for damaged EXIF data.
        return 1
    return value if isinstance(value, int) else 1


def decoder_for(settings: EmbedderSettings, image_size: int) -> Decoder:
    """Return the decoder that the settings describe, for a model of `image_size` x `image_size` pixels."""
    return Decoder(
        max_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
        orient=settings.exif_orientation,
        background=settings.background,
        draft_size=2 * image_size if settings.jpeg_draft else None,
    )


_PILLOW_MODULES = r"PIL\."


def _silence_pillow() -> None:
    """Ignore the warnings that Pillow gives about odd files: the caller gets an answer or an error.

    Called for each decode, since other code may have put filters in front. `warnings.catch_warnings` is not
    an alternative, because it is not safe with threads.
    """
    first = warnings.filters[0] if warnings.filters else None
    if first is None or first[0] != "ignore" or getattr(first[3], "pattern", None) != _PILLOW_MODULES:
        warnings.filterwarnings("ignore", module=_PILLOW_MODULES)
