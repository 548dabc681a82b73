"""No path leaves the root."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.image_location import ImageRoot, OutsideRoot


@pytest.mark.parametrize(
    "image",
    ["../x.jpg", "a/../../x.jpg", "/etc/passwd", "..", ".", "", "a\0b", "https://x/y.jpg", "file:///x"],
)
def test_paths_that_leave_the_root_are_refused(tmp_path: Path, image: str) -> None:
    with pytest.raises(OutsideRoot):
        ImageRoot(tmp_path / "root").resolve(image)


def test_links_are_followed_before_judging(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "out").mkdir()
    (root / "link").symlink_to(tmp_path / "out")
    with pytest.raises(OutsideRoot):
        ImageRoot(root).resolve("link/a.jpg")


def test_a_path_inside_is_taken_also_when_absolute_or_roundabout(tmp_path: Path) -> None:
    root = ImageRoot(tmp_path)
    assert root.resolve("a/../b.jpg") == (tmp_path / "b.jpg", "b.jpg")
    assert root.resolve(str(tmp_path / "b.jpg")) == (tmp_path / "b.jpg", "b.jpg")


@given(st.lists(st.sampled_from(["..", ".", "a", "b.jpg", "", "~", "..."]), max_size=8))
def test_whatever_resolves_lies_below_the_root(parts: list[str]) -> None:
    root = Path("/somewhere/root")
    try:
        path, relative = ImageRoot(root).resolve("/".join(parts))
    except OutsideRoot:
        return
    assert path == root / relative
    assert ".." not in Path(relative).parts
