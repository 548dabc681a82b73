"""Images are upright in every format, have 8 bits in every mode, and are the same whole and in bands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from cir.images import FORMATS, Decoder, upright
from cir.images.upright import UprightImage, flatten, grey_range, to_eight_bits
from tests.embedder_service.sample_images import encode, sample_image

_ORIENTATION = 0x0112
# How a camera that is held so stores an upright image: what its viewer does, undone.
_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_FILES: dict[str, tuple[str, dict[str, object]]] = {
    "JPEG": ("JPEG", {"quality": 95}),
    "progressive JPEG": ("JPEG", {"quality": 95, "progressive": True}),
    "PNG": ("PNG", {}),
    "WebP": ("WEBP", {"lossless": True}),
    "raw TIFF": ("TIFF", {}),
    "LZW TIFF": ("TIFF", {"compression": "tiff_lzw"}),
    "deflated TIFF": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "AVIF": ("AVIF", {"quality": 95}),
    "HEIC": ("HEIF", {"quality": 95}),
}


def quadrants(mode: str = "RGB") -> Image.Image:
    """Four colours, which tell all eight orientations apart, on 64 x 32 pixels."""
    image = Image.new("RGB", (64, 32), (250, 250, 250))
    for place, colour in {(0, 0): (220, 30, 30), (32, 0): (30, 200, 30), (0, 16): (30, 30, 220)}.items():
        image.paste(colour, (*place, place[0] + 32, place[1] + 16))
    return image.convert(mode)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", _FILES)
def test_every_format_stands_upright(name: str, orientation: int) -> None:
    form, options = _FILES[name]
    if form not in FORMATS:
        pytest.skip(f"{form} is not installed")
    image = quadrants()
    transpose = _STORED[orientation]
    stored = image if transpose is None else image.transpose(transpose)
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    shown = Decoder()(encode(stored, form, exif=exif.tobytes(), **options))
    assert shown.size == image.size
    difference = np.asarray(shown.convert("RGB")).astype(int) - np.asarray(image).astype(int)
    # Away from edges, which lossy formats blur.
    assert np.abs(difference[4:12, 8:24]).max() < 30
    assert np.abs(difference).mean() < 6


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        *((mode, "PNG") for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16")),
        *(
            (mode, "TIFF")
            for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F")
        ),
        *((mode, "JPEG") for mode in ("L", "RGB", "CMYK")),
        *((mode, "GIF") for mode in ("L", "P")),
        *((mode, "WEBP") for mode in ("RGB", "RGBA")),
    ],
)
def test_every_mode_keeps_its_brightness(mode: str, form: str) -> None:
    ramp = Image.linear_gradient("L").resize((64, 64))
    wide = {
        "I;16": lambda levels: (levels * 257).astype(np.uint16),
        "I": lambda levels: (levels * 257).astype(np.int32),
        "F": lambda levels: (levels / 255).astype(np.float32),
    }
    if mode in wide:
        image = Image.fromarray(wide[mode](np.asarray(ramp).astype(np.uint32)))
    elif mode == "LAB":
        image = Image.merge("LAB", (ramp, Image.new("L", (64, 64), 128), Image.new("L", (64, 64), 128)))
    else:
        image = ramp if mode == "L" else ramp.convert("RGB").convert(mode)
        if mode == "P":
            image = ramp.quantize(256)
    shown = np.asarray(Decoder().decode(encode(image, form)).to_rgb().whole()).astype(int).mean(axis=2)
    expected = np.asarray(ramp).astype(int)
    if mode == "1":
        assert abs(shown.mean() - expected.mean()) < 12
    else:
        assert np.abs(shown - expected).max() < (40 if mode == "LAB" else 20)


def test_big_endian_greyscale_of_16_bits_is_scaled() -> None:
    levels = np.linspace(0, 65_535, 256).astype(">u2").reshape(16, 16)
    image = Image.frombytes("I;16B", (16, 16), levels.tobytes())
    np.testing.assert_array_equal(np.asarray(to_eight_bits(image)), (levels >> 8).astype(np.uint8))


def stages(image: Image.Image, orientation: int, rgb: bool, ground: tuple[int, int, int]) -> Image.Image:
    """The same work on the whole image, step by step."""
    image = flatten(to_eight_bits(image), ground)
    if rgb:
        image = upright.to_rgb(image)
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    image.info["exif"] = exif.tobytes()
    image = image.copy()
    image.getexif()[_ORIENTATION] = orientation
    return ImageOps.exif_transpose(image)


@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    across=st.sampled_from([0, 0, 1, 13]),
    down=st.sampled_from([0, 0, 1, 17]),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    mode=st.sampled_from(["RGB", "L", "RGBA", "LA", "CMYK", "YCbCr", "I;16", "P", "1", "F"]),
    orientation=st.integers(1, 8),
    rgb=st.booleans(),
    resample=st.sampled_from([Image.Resampling.BICUBIC, Image.Resampling.LANCZOS]),
    seed=st.integers(0, 3),
)
def test_bands_have_the_pixels_of_the_whole_image(
    width: int,
    height: int,
    across: int,
    down: int,
    size: tuple[int, int],
    mode: str,
    orientation: int,
    rgb: bool,
    resample: Image.Resampling,
    seed: int,
) -> None:
    native = sample_image(width, height, mode, seed)
    ground = (10, 200, 30)
    whole = stages(native, orientation, rgb, ground)
    shown = UprightImage(
        native,
        orientation,
        grey_range(native),
        ground if upright.is_translucent(native) else None,
        rgb=rgb,
    )
    assert shown.size == whole.size
    assert shown.mode == whole.mode
    np.testing.assert_array_equal(np.asarray(shown.whole()), np.asarray(whole))
    top, bottom = sorted((seed * 7 % whole.height, whole.height))
    np.testing.assert_array_equal(
        np.asarray(shown.rows(top, bottom)), np.asarray(whole.crop((0, top, whole.width, bottom)))
    )
    fill = 0 if len(whole.getbands()) == 1 else (0,) * len(whole.getbands())
    padded = ImageOps.expand(whole, (across, down), fill)
    if whole.mode == "P":
        padded.putpalette(whole.getpalette() or [])
    expected = padded.resize(size, resample)
    with pytest.MonkeyPatch.context() as patched:
        for limit in (1, 400, 10**9):
            patched.setattr(upright, "_WHOLE_PIXELS", limit)
            patched.setattr(upright, "_BAND_PIXELS", limit // 2)
            found = shown.resized(size, resample, across=across, down=down)
            assert found.mode == expected.mode
            np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_very_large_image_is_resized_in_bands(
    mode: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = UprightImage(sample_image(900, 500, mode), orientation)
    exact = np.asarray(image.resized((60, 48), Image.Resampling.BICUBIC, down=110)).astype(int)
    monkeypatch.setattr(upright, "_WHOLE_PIXELS", 10_000)
    monkeypatch.setattr(upright, "_BAND_PIXELS", 5_000)
    monkeypatch.setattr(upright, "EXACT_PIXELS", 0)
    found = image.resized((60, 48), Image.Resampling.BICUBIC, down=110)
    assert found.mode == mode
    if mode in ("RGBA", "LA"):
        return  # colours of nearly transparent pixels are exact to nobody
    difference = np.abs(np.asarray(found).astype(int) - exact)
    assert difference.max() <= 4
    assert difference.mean() < 0.5


def test_an_image_is_fitted_and_never_enlarged() -> None:
    image = UprightImage(sample_image(300, 100, "RGBA"), 6, background=(255, 255, 255))
    assert image.size == (100, 300)
    fitted = image.fitted((60, 60))
    assert fitted.mode == "RGB"
    assert fitted.size == (20, 60)
    assert image.fitted((900, 900)).size == (100, 300)
