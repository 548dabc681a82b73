"""Images: the formats that are read, and the one way from a file's bytes to an upright 8-bit image.

Every service, the page, the command line and training read images through this package, so that an image
looks the same to all of them. It needs Pillow and numpy alone.
"""

from cir.images.decode import Decoder, ImageError
from cir.images.formats import FORMATS, IMAGE_SUFFIXES, format_of

__all__ = ["FORMATS", "IMAGE_SUFFIXES", "Decoder", "ImageError", "format_of"]
