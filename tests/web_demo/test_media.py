"""Uploads and thumbnails: limited, re-encoded, forgotten, and never from elsewhere."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks._attack_images import jpeg_of_scans, png_of_profiles
from cir.image_source import encode_image
from cir.images import FORMATS
from service_runtime.image_reader import DecodeBudget
from tests.clock import Clock
from tests.embedder_service.sample_images import encode, sample_image
from web_demo.media import (
    THUMBNAIL_SIZES,
    UPLOAD_SIZE,
    BadImageError,
    FittingReader,
    Format,
    Thumbnails,
    Uploads,
    delete_oldest,
)


def image_file(size: tuple[int, int] = (40, 50), mode: str = "RGB", kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, 200 if mode == "L" else None or (200,) * len(mode)).save(out, kind)
    return out.getvalue()


def test_an_upload_is_kept_as_another_file_without_its_metadata(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, max_pixels=10**7, max_files=10, max_total_bytes=10**8, lifetime_seconds=60)
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    Image.new("RGB", (3000, 1000), "red").save(out, "JPEG", exif=exif)
    name = uploads.store(out.getvalue() + b"<script>trailing</script>")
    content = uploads.read(name)
    assert content is not None
    assert b"secret" not in content
    assert b"script" not in content
    with Image.open(io.BytesIO(content)) as kept:
        assert kept.format == "JPEG"
        assert kept.size == (UPLOAD_SIZE[0], round(UPLOAD_SIZE[0] / 3))


def test_uploads_are_forgotten_by_time_and_by_number(tmp_path: Path) -> None:
    clock = Clock()
    uploads = Uploads(
        tmp_path, max_pixels=10**6, max_files=2, max_total_bytes=10**8, lifetime_seconds=60, clock=clock
    )
    names = []
    for number in range(3):
        names.append(uploads.store(image_file()))
        os.utime(tmp_path / f"{names[-1]}.jpg", (number, number))
        clock.now = number
    uploads.delete_expired()
    assert [uploads.read(name) is None for name in names] == [True, False, False]
    clock.now = 62.5
    assert uploads.read(names[2]) is None
    uploads.delete_expired()
    assert list(tmp_path.glob("*.jpg")) == []


@pytest.mark.parametrize("name", ["../x", "", "0" * 31, "/etc/passwd", "G" * 32])
def test_only_names_of_ours_reach_the_disk(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        Uploads(tmp_path, max_pixels=1, max_files=1, max_total_bytes=10**8, lifetime_seconds=1).read(name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not_a_picture"),
        (b"<svg onload=alert(1)>", "not_a_picture"),
        (image_file()[:60], "not_a_picture"),
        (image_file((200, 200)), "too_many_pixels"),
    ],
)
def test_what_is_not_an_image_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(BadImageError) as caught:
        reader().read(content)
    assert caught.value.reason == reason


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "PNG"), ("L", "PNG"), ("CMYK", "JPEG"), ("RGB", "WEBP")])
def test_images_of_every_kind_become_rgb(mode: str, kind: str) -> None:
    assert reader().read(image_file(mode=mode, kind=kind)).mode == "RGB"


def reader() -> FittingReader:
    return FittingReader(fit=(100, 100), max_bytes=10**7, max_pixels=10_000, budget=DecodeBudget())


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_deep_greyscale_is_shown_as_the_embedder_sees_it(kind: type[np.generic]) -> None:
    levels = np.linspace(0, 65_535, 64 * 64).reshape(64, 64).astype(kind)
    content = encode_image(Image.fromarray(levels))
    assert abs(np.asarray(reader().read(content)).mean() - 127.5) < 2


@pytest.mark.service
def test_every_format_that_is_read_is_uploaded_and_shown(tmp_path: Path) -> None:
    uploads = Uploads(
        tmp_path / "up", max_pixels=10**6, max_files=99, max_total_bytes=10**8, lifetime_seconds=60
    )
    thumbnails = Thumbnails(tmp_path / "kept", max_bytes=10**6, max_pixels=10**7, max_files=100)
    try:
        for form in FORMATS:
            content = encode(sample_image(40, 30), form)
            (tmp_path / form).write_bytes(content)
            assert uploads.read(uploads.store(content)), form
            assert shown(thumbnails, str(tmp_path / form), [str(tmp_path)], "webp"), form
        levels = Image.fromarray(np.linspace(0, 1, 900, dtype=np.float32).reshape(30, 30))
        (tmp_path / "deep").write_bytes(encode(levels, "TIFF"))
        content = shown(thumbnails, str(tmp_path / "deep"), [str(tmp_path)], "jpeg") or b""
        assert abs(np.asarray(Image.open(io.BytesIO(content))).mean() - 127.5) < 3
    finally:
        uploads.close()
        thumbnails.close()


@pytest.mark.service
def test_a_costly_upload_is_refused_and_the_next_is_taken(tmp_path: Path) -> None:
    uploads = Uploads(
        tmp_path / "up",
        max_pixels=64_000_000,
        max_files=9,
        max_total_bytes=10**8,
        lifetime_seconds=60,
        budget=DecodeBudget(seconds=0.5),
    )
    try:
        for content in (jpeg_of_scans(60_000, 512), jpeg_of_scans(499), png_of_profiles()):
            with pytest.raises(BadImageError) as caught:
                uploads.store(content)
            assert caught.value.reason == "too_costly"
        assert uploads.store(encode(sample_image(40, 30), "GIF"))
    finally:
        uploads.close()


def shown(thumbnails: Thumbnails, image: str, folders: list[str], format: Format) -> bytes | None:
    """The thumbnail as the page asks for it."""
    kept = thumbnails.kept(image, folders, format)
    return thumbnails.make(image, folders, format) if kept is None else kept


def test_uploads_are_forgotten_by_their_bytes_together_oldest_first(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number:032x}.jpg").write_bytes(bytes(100))
        os.utime(tmp_path / f"{number:032x}.jpg", (number, number))
    (tmp_path / "folder").mkdir()
    delete_oldest(tmp_path, 10, 250)
    assert sorted(path.name[31] for path in tmp_path.glob("*.jpg")) == ["2", "3"]
    delete_oldest(tmp_path, 1, 250)
    assert [path.name[31] for path in tmp_path.glob("*.jpg")] == ["3"]
    delete_oldest(tmp_path, 1, 99)
    assert list(tmp_path.glob("*.jpg")) == []


def test_thumbnails_are_made_once_and_only_below_the_folders_of_the_catalog(tmp_path: Path) -> None:
    root, outside, kept = tmp_path / "root", tmp_path / "outside", tmp_path / "kept"
    for folder in (root, outside):
        folder.mkdir()
        (folder / "a.png").write_bytes(image_file((900, 900)))
    (root / "link.png").symlink_to(outside / "a.png")
    (root / "text.png").write_text("not an image")
    thumbnails = Thumbnails(kept, max_bytes=10**6, max_pixels=10**7, max_files=100)
    folders = [str(root)]
    content = shown(thumbnails, str(root / "a.png"), folders, "webp")
    assert content is not None
    with Image.open(io.BytesIO(content)) as small:
        assert small.format == "WEBP"
        width = THUMBNAIL_SIZES["small"][0]
        assert small.size == (width, width)
    assert shown(thumbnails, str(root / "a.png"), folders, "webp") == content
    assert len(list(kept.iterdir())) == 1
    assert shown(thumbnails, str(root / "a.png"), folders, "jpeg") is not None
    for image in (
        str(outside / "a.png"),
        str(root / "link.png"),
        f"{root}/../outside/a.png",
        str(root / "text.png"),
        str(root / "missing.png"),
        str(root),
        "https://example.org/a.png",
        "",
        "a\x00b",
    ):
        assert shown(thumbnails, image, folders, "webp") is None, image
    for none in ([], ["/"], ["root"], [str(outside)]):
        assert shown(thumbnails, str(root / "a.png"), none, "webp") is None, none
    bounded = Thumbnails(kept, [outside], max_bytes=10**6, max_pixels=10**7, max_files=100)
    assert shown(bounded, str(root / "a.png"), folders, "webp") is None


def test_an_image_is_shown_small_and_large(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(image_file((2000, 2000)))
    thumbnails = Thumbnails(tmp_path / "kept", max_bytes=10**7, max_pixels=10**7, max_files=100)
    folders = [str(tmp_path)]
    for size, (width, _) in THUMBNAIL_SIZES.items():
        for content in (
            thumbnails.make(str(tmp_path / "a.png"), folders, "jpeg", size),
            thumbnails.kept(str(tmp_path / "a.png"), folders, "jpeg", size),
        ):
            assert content is not None
            with Image.open(io.BytesIO(content)) as shown_image:
                assert shown_image.size == (width, width)
    thumbnails.close()


def test_an_image_that_changed_gets_another_thumbnail(tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    source.write_bytes(image_file())
    thumbnails = Thumbnails(tmp_path / "kept", max_bytes=10**6, max_pixels=10**7, max_files=100)
    first = shown(thumbnails, str(source), [str(tmp_path)], "jpeg")
    source.write_bytes(image_file((60, 20)))
    assert shown(thumbnails, str(source), [str(tmp_path)], "jpeg") != first
