"""The contact sheet of a search: finding its pictures and writing the file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from cir.client import Client
from cir.commands.output import payload_text
from cir.errors import CirError
from cir.failure import Failure
from cir.images import ImageSource, encode_image
from cir.search_answer import SearchAnswer
from cir.sheet import Tile, draw_sheet, thumbnail
from cir.turn import Turn


def write_sheet(
    path: Path, *, heading: str, turns: Sequence[Turn], answer: SearchAnswer, client: Client, catalog: str
) -> None:
    """Write the contact sheet; the suffix chooses the format. Raises `Failure` when it cannot be written."""
    query = [_turn_tile(turn, client, catalog, first=turn is turns[0]) for turn in turns]
    results = [
        Tile(
            load_picture(result.image),
            (f"{result.rank}.  {result.score:.3f}", result.id, payload_text(result.payload)),
        )
        for result in answer
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_sheet(heading, query, results).save(path)
    except (OSError, ValueError) as error:
        raise Failure(f"contact sheet {path} cannot be written: {error}") from error


def load_picture(location: ImageSource) -> Image.Image | None:
    """The picture as a thumbnail, since a sheet may show many; None where it cannot be read from here."""
    if isinstance(location, str) and (not location or "://" in location):
        return None
    try:
        with Image.open(io.BytesIO(encode_image(location))) as picture:
            return thumbnail(picture)
    except (CirError, OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return None


def _turn_tile(turn: Turn, client: Client, catalog: str, *, first: bool) -> Tile:
    lines: list[str] = []
    picture: Image.Image | None = None
    if turn.image is not None:
        picture = load_picture(turn.image)
        lines.append(Path(turn.image).name if isinstance(turn.image, (str, Path)) else "a picture")
    elif turn.item:
        picture = load_picture(client.item(catalog, turn.item).image)
        lines.append(f"item {turn.item}")
    if turn.text:
        lines.append(f"“{turn.text}”")
    lines += [f"{word}: {', '.join(ids)}" for word, ids in _feedback(turn)]
    if turn.image is None and not turn.item:
        return Tile(None, tuple(lines), "text alone" if first else "continued")
    return Tile(picture, tuple(lines))


def _feedback(turn: Turn) -> list[tuple[str, Sequence[str]]]:
    return [(word, ids) for word, ids in (("like", turn.liked), ("dislike", turn.disliked)) if ids]
