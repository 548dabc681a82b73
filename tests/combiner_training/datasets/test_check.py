"""Checking a split: what each image is, what is counted, and which queries can be answered."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from combiner_training.datasets.base import Query, Split
from combiner_training.datasets.check import (
    ImageState,
    check_image,
    check_images,
    make_report,
    report_document,
    report_notes,
    report_row,
)
from combiner_training.datasets.fashioniq import CATEGORIES, load_fashioniq
from combiner_training.datasets.load import Dataset, splits_without_captions
from tests.combiner_training.datasets.layouts import real, write_cirr, write_image

NAMES = ("a", "b", "c", "d")


def _split(*queries: Query, gallery: tuple[str, ...] = NAMES) -> Split:
    return Split("shop", "val", queries, gallery, {name: Path(name) for name in NAMES})


def _states(states: dict[str, ImageState]) -> dict[Path, ImageState]:
    return {Path(name): state for name, state in states.items()}


def test_what_is_at_a_path(tmp_path: Path) -> None:
    good = write_image(tmp_path / "good.png")
    Image.linear_gradient("L").save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-400])
    (tmp_path / "empty.png").touch()
    (tmp_path / "page.png").write_text("<html>Not found</html>")
    (tmp_path / "folder.png").mkdir()
    paths = {name: tmp_path / name for name in ("cut.jpg", "empty.png", "page.png", "folder.png", "gone.png")}
    seen: list[int] = []
    states = check_images([good, *paths.values()], workers=3, on_image=seen.append)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert {path.name: state for path, state in states.items()} == {
        "good.png": ImageState.GOOD,
        "cut.jpg": ImageState.UNDECODABLE,
        "empty.png": ImageState.EMPTY,
        "page.png": ImageState.UNDECODABLE,
        "folder.png": ImageState.MISSING,
        "gone.png": ImageState.MISSING,
    }
    assert check_image(tmp_path / "page.png", decode=False) is ImageState.GOOD


def test_what_a_decoder_warns_of_is_no_fault_on_any_thread(tmp_path: Path) -> None:
    whole = write_image(tmp_path / "whole.jpg").read_bytes()
    odd = whole[:2] + b"\xff\xe1\x00\x10Exif\0\0II*\0\x08\0\0\0" + whole[2:]
    paths = [tmp_path / f"{number}.jpg" for number in range(60)]
    for path in paths:
        path.write_bytes(odd)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        states = check_images(paths, workers=8)
        assert set(states.values()) == {ImageState.GOOD}
        # The filters are as they were.
        with pytest.raises(UserWarning, match="still an error"):
            warnings.warn("still an error", stacklevel=1)


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sets(st.sampled_from(NAMES), min_size=1)), min_size=1))
def test_a_query_of_its_own_reference_is_answered_only_where_that_is_kept(
    asked: list[tuple[str, set[str]]],
) -> None:
    split = _split(*(Query(str(n), name, ("red",), (*targets,)) for n, (name, targets) in enumerate(asked)))
    states = _states(dict.fromkeys(NAMES, ImageState.GOOD))
    own = sum(targets == {name} for name, targets in asked)
    report = make_report(split, states)
    assert (report.only_reference, report.answerable) == (own, len(asked) - own)
    assert any("own reference" in note for note in report_notes(report)) is bool(own)
    assert make_report(split, states, reference_kept=True).complete


def test_lists_of_images_without_captions_are_named(tmp_path: Path) -> None:
    for name in ("train", "val"):
        write_cirr(tmp_path, name)
    assert splits_without_captions(Dataset.CIRR, tmp_path) == ()
    (tmp_path / "captions" / "cap.rc2.train.json").unlink()
    assert splits_without_captions(Dataset.CIRR, tmp_path) == ("train",)
    assert splits_without_captions(Dataset.TRIPLETS, tmp_path) == ()


def test_a_report_counts_names_and_answerable_queries() -> None:
    split = _split(
        Query("1", "a", ("in red",), ("b",)),
        Query("2", "a", ("in red", " "), ("c",)),
        Query("3", "a", ("in red",), ("c", "b")),
        Query("4", "c", ("in red",), ("b",)),
        Query("5", "a", ("in red",)),
    )
    good = ImageState.GOOD
    states = _states({"a": good, "b": good, "c": ImageState.MISSING, "d": ImageState.EMPTY})
    report = make_report(split, states)
    assert (report.queries, report.gallery, report.images) == (5, 4, 4)
    assert (report.missing, report.empty, report.undecodable) == (("c",), ("d",), ())
    assert report.empty_texts == ("2",)
    assert (report.answerable, report.answerable_share, report.without_targets) == (3, 0.6, 1)
    assert not report.complete
    assert report_row(report)[:4] == ("val", "5", "4", "4")
    assert report_row(report)[-1] == "60.0%"
    assert [note.split(": ")[1] for note in report_notes(report)] == [
        "missing",
        "empty",
        "the targets of 1 queries are withheld; they count as answerable when their reference can be read",
    ]
    assert report_document("shop", [report])["complete"] is False


def test_a_target_outside_the_gallery_is_no_answer() -> None:
    states = _states(dict.fromkeys(NAMES, ImageState.GOOD))
    split = _split(Query("1", "a", ("in red",), ("b",)), gallery=("a", "c"))
    report = make_report(split, states)
    assert (report.answerable, report.missing, report.complete) == (0, (), False)
    assert make_report(_split(*split.queries), states).complete


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sets(st.sampled_from(NAMES))), max_size=12),
    st.lists(st.sampled_from(list(ImageState)), min_size=4, max_size=4),
    st.sets(st.sampled_from(NAMES)),
    st.booleans(),
)
def test_answerable_queries_are_those_with_a_reference_and_a_reachable_target(
    asked: list[tuple[str, set[str]]], found: list[ImageState], gallery: set[str], reference_kept: bool
) -> None:
    queries = [
        Query(str(number), reference, ("x",), tuple(targets))
        for number, (reference, targets) in enumerate(asked)
    ]
    states = dict(zip(NAMES, found, strict=True))
    split = _split(*queries, gallery=tuple(gallery))
    report = make_report(split, _states(states), reference_kept=reference_kept)
    expected = 0
    for reference, targets in asked:
        reachable = [
            t for t in targets if t in gallery and states[t] == "good" and (reference_kept or t != reference)
        ]
        expected += states[reference] == "good" and bool(reachable or not targets)
    assert report.answerable == expected
    assert len(report.missing) + len(report.empty) + len(report.undecodable) == 4 - found.count(
        ImageState.GOOD
    )


def test_stand_in_images_make_the_real_annotation_complete(tmp_path: Path) -> None:
    root = real("fashioniq")
    for folder in ("captions", "image_splits"):
        (tmp_path / folder).symlink_to(root / folder)
    split = load_fashioniq(tmp_path, "dress", "val", gallery="val")
    stand_in = write_image(tmp_path / "images" / "stand-in.png")
    for path in split.paths.values():
        path.hardlink_to(stand_in)
    split = load_fashioniq(tmp_path, "dress", "val", gallery="val")
    report = make_report(split, check_images(split.paths.values()))
    assert (report.complete, report.queries, report.answerable) == (True, 2_017, 2_017)
    split.paths[split.queries[0].targets[0]].unlink()
    report = make_report(split, check_images(split.paths.values(), decode=False))
    assert report.missing == split.queries[0].targets
    lost = split.queries[0].targets[0]
    assert report.answerable == sum(lost not in (query.reference, *query.targets) for query in split.queries)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "counts"), [("train", (0, 0, 12)), ("val", (0, 1, 2)), ("test", (0, 1, 0))]
)
def test_empty_captions_of_the_real_annotation_are_counted(split: str, counts: tuple[int, ...]) -> None:
    root = real("fashioniq")
    found = []
    for category in CATEGORIES:
        loaded = load_fashioniq(root, category, split)
        report = make_report(loaded, dict.fromkeys(loaded.paths.values(), ImageState.GOOD))
        found.append(len(report.empty_texts))
    assert tuple(found) == counts
