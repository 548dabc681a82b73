from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import cir
from cir.commands.sheet_pictures import load_picture, write_sheet
from cir.failure import Failure
from cir.search_answer import SearchAnswer
from cir.turn import Turn
from tests.cir import messages
from tests.cir.fake_search import FakeSearch


def test_only_readable_local_pictures_are_loaded(tmp_path: Path) -> None:
    good = tmp_path / "a.png"
    Image.new("RGB", (8, 8), (255, 0, 0)).save(good)
    bad = tmp_path / "b.png"
    bad.write_bytes(good.read_bytes()[:40])
    assert load_picture(str(good)) is not None
    for location in (str(bad), str(tmp_path / "missing.png"), "", "https://shop/a.png", str(tmp_path)):
        assert load_picture(location) is None


def test_a_sheet_is_written_with_items_as_references(tmp_path: Path, search_service: FakeSearch) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (8, 8), (255, 0, 0)).save(picture)
    search_service.answers["GetItem"] = messages.item("ref", str(picture))
    answer = SearchAnswer.read(messages.search_response(messages.item("x", str(picture)), messages.item("y")))
    turns = [Turn(item="ref", text="in red"), Turn(text="longer", liked=["x"])]
    sheet = tmp_path / "new" / "sheet.png"
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
