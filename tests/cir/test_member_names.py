"""Names that are members of a data set, and names that never are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cir.images.formats import IMAGE_SUFFIXES
from cir.member_names import (
    UNREAD_SUFFIXES,
    PassedOver,
    is_image_name,
    is_system_name,
    reason_for_file,
    reason_for_named,
    reason_for_path,
)

SYSTEM = [
    "._a.jpg",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
    "@eaDir",
    "__MACOSX",
    ".Spotlight-V100",
    "#recycle",
    "lost+found",
    "PaxHeader",
    "PaxHeaders",
    "PaxHeaders.12345",
    "$RECYCLE.BIN",
    "System Volume Information",
    "~$catalogue.jpg",
    "Icon\r",
]
MEMBERS = [
    "a.jpg",
    "_a.jpg",
    "__a__.jpg",
    "thumbs.db.jpg",
    "eaDir.png",
    "IMG.1.JPG",
    "DSC0001.HIF",
    "x.jp2",
    "é b.webp",
]


@pytest.mark.parametrize("name", SYSTEM)
def test_companions_are_never_members_wherever_they_stand(name: str) -> None:
    for spelt in (name, name.upper(), name.lower(), name.swapcase()):
        assert is_system_name(spelt)
        for path in (spelt, f"{spelt}/a.jpg", f"sub/{spelt}/b/c.png", f"./{spelt}"):
            assert reason_for_file(path) is PassedOver.SYSTEM_FILE, path
            assert reason_for_named(path) is PassedOver.SYSTEM_FILE, path
    assert reason_for_named(f"https://shop/x/{name}") is PassedOver.SYSTEM_FILE


@pytest.mark.parametrize("name", MEMBERS)
def test_members_are_members_in_any_letter_case(name: str) -> None:
    for spelt in (name, name.upper(), name.swapcase()):
        for path in (spelt, f"a.b/{spelt}", f"./{spelt}", f"x/../{spelt}"):
            assert reason_for_file(path) is None, path


def test_what_a_person_has_named_is_taken() -> None:
    for named in (".cache/a.jpg", "/srv/lost+found/a.jpg", "https://shop/@tmp/a.jpg", "a", "a.bin", ".a.jpg"):
        assert reason_for_named(named) is None, named
    assert reason_for_path(".cache/a.jpg") is PassedOver.HIDDEN


def test_other_files_have_their_reasons() -> None:
    assert reason_for_file("a.PSD") is PassedOver.FORMAT_NOT_READ
    assert reason_for_file("a.cr2") is PassedOver.FORMAT_NOT_READ
    assert (
        reason_for_file("a.txt")
        is reason_for_file("jpg")
        is reason_for_file("a.jpg.txt")
        is PassedOver.NO_IMAGE
    )
    assert reason_for_file(".a.jpg") is reason_for_file("x/.b/a.jpg") is PassedOver.HIDDEN
    assert UNREAD_SUFFIXES.isdisjoint(IMAGE_SUFFIXES)


@given(st.text(max_size=20), st.sampled_from(sorted(IMAGE_SUFFIXES)))
def test_every_name_has_one_answer(stem: str, suffix: str) -> None:
    name = stem.replace("/", "") + suffix
    reason = reason_for_file(name)
    if reason is None:
        assert is_image_name(name)
        assert not name.startswith(".")
    assert reason_for_file(f"folder/{name}") == reason
