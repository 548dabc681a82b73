"""Contact sheets of notebooks: escaped, self-contained, bounded, with the images of named folders alone."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import cir
from cir import answer_html as module
from cir.models import Explanation, Result, SearchAnswer, Timings

TIMINGS = Timings(None, None, None, None, None, 0.0123)


class Sheet(HTMLParser):
    """Tags and attributes of a sheet, and its text; fails for tags that do not match."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "img":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data}\n"


def answer(*results: Result, version: str = "v1") -> SearchAnswer:
    explanation = Explanation((), "sum", version, "clip-1", exact=True)
    return SearchAnswer(results, "", explanation, TIMINGS)


def shown(found: SearchAnswer) -> Sheet:
    """Return the sheet of an answer, which must load nothing and run nothing."""
    source = found._repr_html_()
    assert len(source.encode()) <= module.MAX_BYTES
    sheet = Sheet(source)
    for tag, attributes in sheet.tags:
        assert tag in ("div", "span", "b", "img")
        assert set(attributes) <= {"style", "title", "alt", "src"}
        assert "url(" not in (attributes.get("style") or "")
        if tag == "img":
            assert (attributes["src"] or "").startswith("data:image/jpeg;base64,")
    return sheet


@pytest.fixture(autouse=True)
def no_folders() -> Iterator[None]:
    yield
    cir.show_images_below()


TEXTS = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["<script>alert(1)</script>", '" onerror="x', "</div>", "&lt;", "' --> ]]>", "<img src=http://x>"]
)
VALUES: Any = TEXTS | st.integers() | st.floats() | st.booleans() | st.lists(TEXTS, max_size=3)


@given(st.lists(st.tuples(TEXTS, st.dictionaries(TEXTS, VALUES, max_size=10)), max_size=4), TEXTS)
def test_whatever_a_catalog_holds_is_text(found: list[tuple[str, dict[str, Any]]], version: str) -> None:
    results = [Result(text, 0.5, rank, payload, image=text) for rank, (text, payload) in enumerate(found, 1)]
    shown(answer(*results, version=version))


def test_a_sheet_says_what_was_found() -> None:
    payload: dict[str, Any] = {
        "colour": "dark red", "price": 49.5, "sizes": [36, 38], "place": cir.GeoPoint(52.5, 13.4),
        "since": datetime(2024, 5, 1, tzinfo=UTC),
    }  # fmt: skip
    text = shown(answer(Result("dress/1", 0.91234, 1, payload, image="/photos/a.jpg"))).text
    for part in (
        "1 results, combiner sum, version v1, 12 ms",
        "0.912",
        "dress/1",
        "colour: dark red",
        "sizes: 36, 38",
    ):
        assert part in text
    assert "place: 52.5, 13.4" in text
    assert "since: 2024-05-01T00:00:00+00:00" in text
    assert "cir.show_images_below(folder) shows images" in text
    assert "0 results" in shown(answer()).text


def photo(path: Path, size: tuple[int, int] = (300, 200)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 90).convert("RGB").save(path, "JPEG")
    return path


def test_images_of_named_folders_alone_are_shown(tmp_path: Path) -> None:
    inside, outside = photo(tmp_path / "shop" / "a.jpg"), photo(tmp_path / "private" / "b.jpg")
    (tmp_path / "shop" / "link.jpg").symlink_to(outside)
    (tmp_path / "shop" / "text.jpg").write_text("no image")
    locations = [
        str(inside), str(outside), str(tmp_path / "shop" / ".." / "private" / "b.jpg"), "a.jpg",
        str(tmp_path / "shop" / "link.jpg"), str(tmp_path / "shop" / "text.jpg"),
        "https://example.com/a.jpg", "",
    ]  # fmt: skip
    found = answer(*(Result(str(n), 0.5, n, {}, image=location) for n, location in enumerate(locations, 1)))
    assert not [tag for tag, _ in shown(found).tags if tag == "img"]
    cir.show_images_below(tmp_path / "shop")
    sheet = shown(found)
    assert sheet.text.count("no image") == len(locations) - 1
    assert "shows images" not in sheet.text
    [source] = [attributes["src"] for tag, attributes in sheet.tags if tag == "img"]
    thumbnail = Image.open(io.BytesIO(base64.b64decode((source or "").partition(",")[2])))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (224, 149))


@pytest.mark.parametrize("folder", ["/", "photos", ""])
def test_folders_that_are_none_are_refused(folder: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{folder!r} is no folder to show images of")):
        cir.show_images_below(folder)


def test_many_large_results_stay_within_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = str(photo(tmp_path / "a.jpg", (600, 600)))
    cir.show_images_below(tmp_path)
    text = "<&\"'" * 50
    payload: dict[str, Any] = {f"{text[:90]}{n}": [text] * 10 for n in range(12)}
    results = [Result(text, 0.5, rank, payload, image=location) for rank in range(1, 101)]
    monkeypatch.setattr(module, "MAX_BYTES", 950_000)
    found = answer(*results)
    sheet = shown(found)
    assert "the first 60 shown" in sheet.text
    images = [tag for tag, _ in sheet.tags if tag == "img"]
    assert 3 < len(images) < 60
    assert sheet.text.count("no image") == 60 - len(images)
    monkeypatch.setattr(module, "MAX_BYTES", 100_000)
    assert "100 results, the first 14 shown" in shown(found).text
