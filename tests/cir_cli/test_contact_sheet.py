"""Contact sheets, and the images that they show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

import cir
from cir.images import FORMATS
from cir.models import SearchAnswer
from cir.turns import Turn
from cir_cli.contact_sheet import (
    GAP,
    TILE,
    Tile,
    draw_sheet,
    fitted,
    load_image,
    load_item_image,
    open_reader,
    thumbnail,
    write_sheet,
)
from cir_cli.errors import Failure
from service_runtime.image_reader import ImageReader
from tests.cir import messages
from tests.cir.fake_search import FakeSearch
from tests.embedder_service.sample_images import encode, sample_image

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture
def reader() -> Iterator[ImageReader]:
    opened = open_reader()
    yield opened
    opened.close()


def tile(colour: tuple[int, int, int], *lines: str) -> Tile:
    return Tile(Image.new("RGB", (50, 50), colour), lines)


def shares(sheet: Image.Image, colour: tuple[int, int, int]) -> int:
    """Pixels of exactly this colour."""
    return int((np.asarray(sheet) == colour).all(axis=2).sum())


def test_query_and_results_are_all_on_the_sheet() -> None:
    sheet = draw_sheet("heading", [tile(RED)], [tile(BLUE, "1.  0.9", "id")] * 7, columns=5)
    assert sheet.mode == "RGB"
    assert sheet.width == GAP + 5 * (TILE + GAP)
    inside = (TILE - 2) ** 2
    assert shares(sheet, RED) == inside
    assert shares(sheet, BLUE) == 7 * inside
    pixels = np.asarray(sheet)
    rows = np.flatnonzero((pixels == BLUE).all(axis=2).any(axis=1))
    # Two rows of results, below the query.
    assert np.count_nonzero(np.diff(rows) > 1) == 1
    assert rows[0] > np.flatnonzero((pixels == RED).all(axis=2).any(axis=1))[-1]


def test_labels_are_drawn_below_their_picture() -> None:
    with_text = np.asarray(draw_sheet("h", [], [tile(BLUE, "WWWW")], columns=1))
    without = np.asarray(draw_sheet("h", [], [tile(BLUE, " ")], columns=1))
    assert with_text.shape == without.shape
    changed = np.argwhere((with_text != without).any(axis=2))
    bottom_of_picture = np.flatnonzero((without == BLUE).all(axis=2).any(axis=1))[-1]
    assert len(changed) > 20
    assert changed[:, 0].min() > bottom_of_picture
    assert changed[:, 1].min() >= GAP


def test_a_picture_that_is_not_here_leaves_its_place() -> None:
    sheet = draw_sheet("h", [Tile(None, ("a",), "continued")], [Tile(None, ("b",)), tile(BLUE)])
    assert shares(sheet, BLUE) == (TILE - 2) ** 2


def test_more_turns_than_columns_widen_the_sheet() -> None:
    assert draw_sheet("h", [tile(RED)] * 7, [tile(BLUE)], columns=2).width == GAP + 7 * (TILE + GAP)


def test_an_empty_sheet_can_be_drawn_and_no_columns_not() -> None:
    assert draw_sheet("", [], []).height > 0
    with pytest.raises(ValueError, match="at least one column"):
        draw_sheet("h", [], [], columns=0)


@pytest.mark.parametrize("size", [(300, 100), (100, 300), (1, 400)])
def test_thumbnails_show_the_whole_picture_on_white(size: tuple[int, int]) -> None:
    small = np.asarray(thumbnail(Image.new("RGB", size, RED)))
    assert small.shape == (TILE, TILE, 3)
    red = (small == RED).all(axis=2)
    assert red.any()
    expected = size[0] * size[1] / max(size) ** 2
    assert abs(red.mean() - expected) < 0.02
    assert (small[~red] > 100).any()


def test_transparent_pixels_are_white(reader: ImageReader) -> None:
    image = load_image(Image.new("RGBA", (10, 10), (0, 0, 0, 0)), reader)
    assert image is not None
    assert (np.asarray(image) == 255).all()


def test_cameras_are_turned_upright(reader: ImageReader) -> None:
    picture = Image.new("RGB", (20, 10), WHITE)
    picture.paste(RED, (0, 0, 10, 10))
    picture.getexif()[0x0112] = 6  # turn by 90 degrees clockwise: left becomes top
    image = load_image(picture, reader)
    assert image is not None
    upright = np.asarray(thumbnail(image))
    assert tuple(upright[10, TILE // 2]) == RED
    assert tuple(upright[-10, TILE // 2]) == WHITE


def test_deep_greyscale_is_not_white(reader: ImageReader) -> None:
    levels = np.linspace(0, 65_535, 64 * 64).reshape(64, 64)
    for kind in (np.uint16, np.int32, np.float32):
        image = load_image(Image.fromarray(levels.astype(kind)), reader)
        assert image is not None
        assert abs(np.asarray(image).mean() - 127.5) < 3


@pytest.mark.service
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_that_is_read_is_shown(form: str, reader: ImageReader) -> None:
    image = load_image(encode(sample_image(40, 30), form), reader)
    assert image is not None
    assert image.size == (40, 30)


def test_long_texts_are_cut_and_short_ones_kept() -> None:
    font = ImageFont.load_default(14)
    assert fitted("short", font, 200) == "short"
    cut = fitted("x" * 500, font, 100)
    assert cut.endswith("…")
    assert font.getlength(cut) <= 100
    assert font.getlength(cut + "x") > 100
    assert "\n" not in fitted("two\nlines", font, 200)


def test_an_item_is_read_from_its_catalogs_folders_alone(tmp_path: Path, reader: ImageReader) -> None:
    own, outside = tmp_path / "own", tmp_path / "outside"
    for folder in (own, outside):
        folder.mkdir()
        Image.new("RGB", (8, 8), RED).save(folder / "a.png")
    os.mkfifo(own / "pipe.png")
    assert load_item_image(f"{own}/a.png", [str(own)], reader) is not None
    for location in (
        f"{outside}/a.png",
        f"{own}/../outside/a.png",
        f"{own}/pipe.png",
        "https://shop/a.png",
        "",
    ):
        assert load_item_image(location, [str(own)], reader) is None, location
    assert load_item_image(f"{own}/a.png", ["/"], reader) is None


def test_only_readable_local_pictures_are_loaded(tmp_path: Path, reader: ImageReader) -> None:
    good = tmp_path / "a.png"
    Image.new("RGB", (8, 8), (255, 0, 0)).save(good)
    bad = tmp_path / "b.png"
    bad.write_bytes(good.read_bytes()[:40])
    assert load_image(str(good), reader) is not None
    for location in (str(bad), str(tmp_path / "missing.png"), "", "https://shop/a.png", str(tmp_path)):
        assert load_image(location, reader) is None


@pytest.mark.service
def test_a_sheet_is_written_with_items_as_references(tmp_path: Path, search_service: FakeSearch) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (8, 8), (255, 0, 0)).save(picture)
    catalog = messages.catalog("shop")
    catalog.published.image_folders.append(str(tmp_path))
    search_service.answers["GetCatalog"] = catalog
    search_service.answers["GetItem"] = messages.item("ref", str(picture))
    answer = SearchAnswer.read(messages.search_response(messages.item("x", str(picture)), messages.item("y")))
    turns = [Turn(item="ref", text="in red"), Turn(text="longer", liked=["x"])]
    sheet = tmp_path / "sheet.png"
    with cir.Client(search_service.address, timeout=10) as client:
        write_sheet(sheet, heading="h", turns=turns, answer=answer, client=client, catalog="shop")
        with Image.open(sheet) as written:
            assert written.width > 1000
        with pytest.raises(Failure, match=r"sheet\.nothing cannot be written"):
            write_sheet(
                tmp_path / "sheet.nothing",
                heading="h",
                turns=turns,
                answer=answer,
                client=client,
                catalog="shop",
            )
