"""Contact sheets: the results of a search as one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from cir.channel import MAX_MESSAGE_BYTES
from cir.client import Client
from cir.errors import CirError
from cir.image_source import ImageSource, encode_image
from cir.images.decode import Decoder, Fitting
from cir.local_images import read_image
from cir.models import SearchAnswer
from cir.turns import Turn
from cir_cli.errors import Failure, WrongUsage
from cir_cli.output import payload_text
from service_runtime.image_reader import ImageBusyError, ImageReader

TILE = 224
GAP = 16
_LINE = 18
_FONT_SIZE = 14
_WHITE, _INK, _GREY, _PANEL, _RULE = "#ffffff", "#1c1c1c", "#6b6b6b", "#f3f3f3", "#d0d0d0"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Tile:
    """An image with lines of text below, the first in black; without an image a grey tile with a word."""

    image: Image.Image | None
    lines: tuple[str, ...] = ()
    placeholder: str = "no image"


def draw_sheet(
    heading: str, query: Sequence[Tile], results: Sequence[Tile], *, columns: int = 5
) -> Image.Image:
    """RGB sheet with the turns of the query in a row of its own and the results in rows of `columns`."""
    if columns < 1:
        raise ValueError(f"a sheet needs at least one column, not {columns}")
    columns = max(columns, len(query))
    font = ImageFont.load_default(_FONT_SIZE)
    query_height = _height(query)
    rows = [results[start : start + columns] for start in range(0, len(results), columns)]
    width = GAP + columns * (TILE + GAP)
    height = GAP + _LINE + GAP + query_height + GAP + sum(_height(row) + GAP for row in rows) + GAP
    sheet = Image.new("RGB", (width, height), _WHITE)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, GAP), fitted(heading, font, width - 2 * GAP), fill=_INK, font=font)
    top = GAP + _LINE + GAP
    pen.rectangle((0, top - GAP // 2, width, top + query_height + GAP // 2), fill=_PANEL)
    _draw_row(sheet, query, top, font)
    top += query_height + GAP
    for row in rows:
        _draw_row(sheet, row, top + GAP // 2, font)
        top += _height(row) + GAP
    return sheet


def thumbnail(image: Image.Image) -> Image.Image:
    """The whole of an RGB image in a square of `TILE` pixels, on white."""
    return ImageOps.pad(image, (TILE, TILE), Image.Resampling.LANCZOS, color=_WHITE)


def fitted(text: str, font: Font, width: int) -> str:
    """The text on one line, cut with an ellipsis where it is wider than `width` pixels."""
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    low, high = 0, len(text)  # the longest prefix that fits, by bisection
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(f"{text[:middle]}…") <= width:
            low = middle
        else:
            high = middle - 1
    return f"{text[:low].rstrip()}…"


def _height(tiles: Sequence[Tile]) -> int:
    return TILE + _LINE * max((len(tile.lines) for tile in tiles), default=0)


def _draw_row(sheet: Image.Image, tiles: Sequence[Tile], top: int, font: Font) -> None:
    pen = ImageDraw.Draw(sheet)
    for column, tile in enumerate(tiles):
        left = GAP + column * (TILE + GAP)
        if tile.image is not None:
            sheet.paste(thumbnail(tile.image), (left, top))
        else:
            pen.rectangle((left, top, left + TILE - 1, top + TILE - 1), fill=_PANEL)
            pen.text(
                (left + TILE // 2, top + TILE // 2), tile.placeholder, fill=_GREY, font=font, anchor="mm"
            )
        pen.rectangle((left, top, left + TILE - 1, top + TILE - 1), outline=_RULE)
        for number, line in enumerate(tile.lines):
            where = (left, top + TILE + number * _LINE + 2)
            pen.text(where, fitted(line, font, TILE), fill=_GREY if number else _INK, font=font)


def write_sheet(
    path: Path, *, heading: str, turns: Sequence[Turn], answer: SearchAnswer, client: Client, catalog: str
) -> None:
    """Write the contact sheet; the suffix chooses the format.

    Raises:
        Failure: it cannot be written.
    """
    published = client.catalog(catalog).published
    folders = published.image_folders if published is not None else ()
    reader = open_reader()
    try:
        query = [_turn_tile(turn, client, catalog, folders, reader, first=turn is turns[0]) for turn in turns]
        results = [
            Tile(
                load_item_image(result.image, folders, reader),
                (f"{result.rank}.  {result.score:.3f}", result.id, payload_text(result.payload)),
            )
            for result in answer
        ]
    finally:
        reader.close()
    try:
        draw_sheet(heading, query, results).save(path)
    except (OSError, ValueError) as error:
        raise Failure(f"contact sheet {path} cannot be written: {error}") from error


def check_format(path: Path) -> None:
    """Check that a contact sheet can be written in the format that the suffix of its path names.

    Raises:
        WrongUsage: it cannot.
    """
    Image.init()
    written = Image.registered_extensions().get(path.suffix.lower(), "")
    try:
        Image.new("RGB", (1, 1)).save(BytesIO(), written)
    except (OSError, ValueError, KeyError) as error:
        kind = f"the suffix {path.suffix!r}" if path.suffix else "a name without a suffix"
        raise WrongUsage(
            f"contact sheet {path} cannot be written: {kind} names no format for it; take .png, .jpg or .webp"
        ) from error


def open_reader() -> ImageReader:
    """The reader of the images of a sheet; to be closed."""
    decoder = Decoder(max_bytes=MAX_MESSAGE_BYTES, draft_size=TILE)
    return ImageReader(Fitting(decoder, (TILE, TILE)))


def load_item_image(location: str, folders: Sequence[str], reader: ImageReader) -> Image.Image | None:
    """The image of an item as a thumbnail; None where it cannot be read from here.

    Only below the folders that its catalog was indexed from: the location may be anybody's who writes items.
    """
    content = read_image(location, folders, max_bytes=MAX_MESSAGE_BYTES)
    return None if content is None else load_image(content, reader)


def load_image(source: ImageSource, reader: ImageReader) -> Image.Image | None:
    """An image of the caller's as a thumbnail, since a sheet may show many; None where it cannot be read."""
    try:
        return Image.fromarray(reader.read(encode_image(source)))
    except (CirError, ImageBusyError):
        return None


def _turn_tile(
    turn: Turn, client: Client, catalog: str, folders: Sequence[str], reader: ImageReader, *, first: bool
) -> Tile:
    lines: list[str] = []
    image: Image.Image | None = None
    if turn.image is not None:
        image = load_image(turn.image, reader)
        lines.append(Path(turn.image).name if isinstance(turn.image, (str, Path)) else "an image")
    elif turn.item:
        image = load_item_image(client.item(catalog, turn.item).image, folders, reader)
        lines.append(f"item {turn.item}")
    if turn.text:
        lines.append(f"“{turn.text}”")
    lines += [f"{word}: {', '.join(ids)}" for word, ids in _feedback(turn)]
    if turn.image is None and not turn.item:
        return Tile(None, tuple(lines), "text alone" if first else "continued")
    return Tile(image, tuple(lines))


def _feedback(turn: Turn) -> list[tuple[str, Sequence[str]]]:
    return [(word, ids) for word, ids in (("like", turn.liked), ("dislike", turn.disliked)) if ids]
