"""Reading images within a budget: hostile files, lost workers, and the memory and time that they take."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from benchmarks import _attack_images as attacks
from cir.common.v1 import errors_pb2 as pb
from cir.images import Decoder, ImageError
from embedder_service.images.preprocess import Preprocessor, prepare_with
from service_runtime.image_reader import MIB, DecodeBudget, ImageBusyError, ImageReader, refusal_of
from service_runtime.image_worker import Pixels
from tests.embedder_service.sample_images import encode, sample_image

GOOD = encode(sample_image(40, 50), "TIFF")
CHEAP = encode(sample_image(40, 50), "PNG")


@dataclass(frozen=True)
class Misbehaving:
    """Does what the bytes say."""

    decoder: Decoder = field(default_factory=Decoder)

    def memory_bytes(self, width: int, height: int) -> int:
        return 0

    def __call__(self, content: bytes) -> Pixels:
        match content.rpartition(b" ")[2]:
            case b"abort":
                os.abort()
            case b"killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case b"endless":
                while True:
                    pass
            case b"sleep":
                signal.pause()
            case b"memory":
                bytearray(10**12)
            case b"breaks":
                raise RuntimeError("a bug")
        return np.full((1, 2, 3), 7, np.uint8)


def tiff(word: bytes) -> bytes:
    """Something that begins like a TIFF, and so is read by a worker."""
    return b"II*\0" + b" " + word


@pytest.fixture
def given_up() -> list[str]:
    return []


@pytest.fixture
def reader(given_up: list[str]) -> Iterator[ImageReader]:
    made = ImageReader(Misbehaving(), DecodeBudget(seconds=0.3), on_given_up=given_up.append)
    yield made
    made.close()


@pytest.mark.service
@pytest.mark.parametrize(
    ("word", "cause", "message"),
    [
        (b"endless", "time", "takes more than 0.3 s"),
        (b"memory", "memory", "takes more than 208 MiB"),
        (b"killed", "memory", "takes more than 208 MiB"),
        (b"abort", "crash", "makes its decoder fail"),
        (b"breaks", "crash", "makes its decoder fail"),
    ],
)
def test_an_image_is_given_up_and_the_next_is_read(
    reader: ImageReader, given_up: list[str], word: bytes, cause: str, message: str
) -> None:
    for _ in range(2):
        with pytest.raises(ImageError, match=message) as caught:
            reader.read(tiff(word))
        assert caught.value.reason == "IMAGE_TOO_COSTLY"
        assert refusal_of(caught.value).reason == pb.IMAGE_TOO_COSTLY
        assert reader.read(tiff(b"good")).tolist() == [[[7, 7, 7], [7, 7, 7]]]
    assert given_up == [cause, cause]


@pytest.mark.service
def test_a_machine_without_time_is_no_fault_of_the_image(reader: ImageReader, given_up: list[str]) -> None:
    with pytest.raises(ImageBusyError, match="too busy") as caught:
        reader.read(tiff(b"sleep"))
    assert refusal_of(caught.value).reason == pb.OVERLOADED
    assert given_up == ["busy"]
    assert reader.read(tiff(b"good")).shape == (1, 2, 3)


@pytest.mark.service
def test_a_reader_that_is_closed_leaves_no_process(reader: ImageReader) -> None:
    reader.start()
    worker = reader._workers[-1]._process
    assert worker is not None
    assert worker.poll() is None
    reader.close()
    assert worker.poll() is not None


@pytest.mark.service
def test_an_idle_worker_is_ended_and_the_next_image_starts_another() -> None:
    reader = ImageReader(Misbehaving(), idle_seconds=0.05)
    try:
        reader.start()
        worker = reader._workers[-1]
        for _ in range(2):
            first = worker._process
            assert first is not None
            first.wait(30)
            assert reader.read(tiff(b"good")).shape == (1, 2, 3)
            assert worker._process is not first
    finally:
        reader.close()


@pytest.mark.service
def test_several_threads_share_the_workers() -> None:
    reader = ImageReader(prepare_with(Decoder(), Preprocessor(size=32)), DecodeBudget(workers=2))
    try:
        expected = Preprocessor(size=32)(Decoder()(GOOD))
        found: list[bool] = []

        def read() -> None:
            for content in (GOOD, CHEAP) * 5:
                found.append(bool((reader.read(content) == expected).all()))

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 40
    finally:
        reader.close()


def test_cheap_images_need_no_process() -> None:
    reader = ImageReader(prepare_with(Decoder(), Preprocessor(size=32)))
    for form, options in (
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
    ):
        content = encode(sample_image(400, 300), form, **options)
        assert reader.is_cheap(reader.check(content)), (form, options)
        assert reader.read(content).shape == (32, 32, 3)
    assert reader.is_cheap(reader.check(b"no image at all"))


@pytest.mark.parametrize(
    "name",
    [
        "JPEG of 500 scans",
        "JPEG of 2,000,000 comments",
        "JPEG of 500,000 EXIF segments",
        "JPEG of one EXIF value 4,900 times",
        "JPEG of one MPF value 4,900 times",
        "PNG of 64 million grey pixels of 16 bits",
        "PNG of 1,200 profiles",
        "PNG of 1,200 texts",
        "PNG of 180,000 chunks",
        "GIF of one comment",
        "TIFF of 8,000 equal strips",
        "WebP of 1,200,000 chunks",
    ],
)
def test_a_costly_image_is_never_decoded_in_the_service(name: str) -> None:
    reader = ImageReader(prepare_with(Decoder(), Preprocessor()))
    assert not reader.is_cheap(reader.check(attacks.ATTACKS[name]()))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("JPEG of 60,000 scans", "IMAGE_TOO_COSTLY"),
        ("JPEG of 60,000 small scans", "IMAGE_TOO_COSTLY"),
        ("PNG of 64 million pixels", "IMAGE_TOO_COSTLY"),
        ("WebP of 64 million pixels", "IMAGE_TOO_COSTLY"),
        ("PNG of 1 x 64,000,000", "IMAGE_TOO_MANY_PIXELS"),
        ("PNG of 64,000,000 x 1", "IMAGE_TOO_MANY_PIXELS"),
    ],
)
def test_what_the_header_condemns_is_refused_at_once(name: str, reason: str) -> None:
    reader = ImageReader(prepare_with(Decoder(), Preprocessor()))
    with pytest.raises(ImageError) as caught:
        reader.check(attacks.ATTACKS[name]())
    assert caught.value.reason == reason


_PROGRAM = """
import random, sys, threading, time
from benchmarks._attack_images import ATTACKS
from cir.images import Decoder, ImageError
from embedder_service.images.preprocess import Preprocessor, prepare_with
from service_runtime.image_reader import ImageBusyError, ImageReader
from tests.robustness.hostile_images import damage, files

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))

def hostile():
    if sys.argv[1] == "attacks":
        for name, make in ATTACKS.items():
            if "million" not in name or name.startswith("PNG"):
                yield make()
    else:
        source, sound = random.Random(18), files()
        for _ in range(1000):
            yield damage(sound, source)

reader = ImageReader(prepare_with(Decoder(), Preprocessor()))
for content in files():
    reader.read(content)
images = list(hostile())
before, peak, ended = resident(), 0, False

def watch():
    global peak
    while not ended:
        peak = max(peak, resident())
        time.sleep(0.005)

watcher = threading.Thread(target=watch)
watcher.start()
for content in images:
    try:
        assert reader.read(content).shape == (224, 224, 3)
    except (ImageError, ImageBusyError):
        pass
ended = True
watcher.join()
reader.close()
print(peak - before, resident() - before)
"""


@pytest.mark.service
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["attacks", "mutated"])
def test_hostile_images_take_neither_memory_nor_the_service(kind: str) -> None:
    # In a process of its own, whose memory is not that of other tests.
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, kind],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    peak, left = map(int, done.stdout.split())
    assert peak < 256, f"{peak} MiB"
    assert left < 128, f"{left} MiB"


@pytest.mark.service
def test_a_large_image_fits_the_budget() -> None:
    given_up: list[str] = []
    reader = ImageReader(prepare_with(Decoder(), Preprocessor(size=32)), on_given_up=given_up.append)
    try:
        assert reader.read(attacks.png(8000, 5000)).shape == (32, 32, 3)
        assert not given_up
    finally:
        reader.close()
    small = ImageReader(prepare_with(Decoder(), Preprocessor()), DecodeBudget(memory_bytes=64 * MIB))
    with pytest.raises(ImageError, match="takes more than 64 MiB"):
        small.check(attacks.png(8000, 5000))


def test_a_system_that_cannot_bound_a_process_reads_cheap_images_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service_runtime.image_worker._CAN_BE_BOUNDED", False)
    reader = ImageReader(Misbehaving())
    try:
        assert reader.read(CHEAP).shape == (1, 2, 3)
        with pytest.raises(ImageBusyError, match="not decoded on this system"):
            reader.read(GOOD)
    finally:
        reader.close()
