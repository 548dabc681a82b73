"""The service over gRPC, with a small model: features, refusals, streams, and requests made at random."""

from __future__ import annotations

import asyncio
import io
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from cir import vectors
from cir.common.v1 import errors_pb2, vectors_pb2
from cir.embedder.v1 import embedder_pb2 as pb
from embedder_service.images.preprocess import PaddingMode, Preprocessor
from embedder_service.probe import smallest_cosine
from tests.embedder_service.conftest import running, small_settings
from tests.embedder_service.images.test_preprocess import published
from tests.embedder_service.sample_images import PHOTOS, encode, jpeg, png_header, sample_image
from tests.embedder_service.small_model import load_small
from tests.random_messages import FAULTS, REQUESTS, random_message
from tests.refused import refused

pytestmark = [pytest.mark.service, pytest.mark.torch]

LIMITS: dict[str, Any] = {
    "max_image_bytes": 100_000,
    "max_image_pixels": 1_000_000,
    "max_batch_items": 20,
    "max_queue_items": 40,
    "max_text_characters": 500,
}


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Any]:
    async with running(small_settings(tmp_path, **LIMITS)) as stub:
        yield stub


def images(*contents: bytes, **fields: Any) -> pb.EmbedImagesRequest:
    return pb.EmbedImagesRequest(images=[pb.ImageInput(content=c) for c in contents], **fields)


def reasons(response: Any) -> dict[int, str]:
    return {error.index: errors_pb2.ErrorReason.Name(error.reason) for error in response.errors}


def photos(count: int) -> list[bytes]:
    """Real photos where they are, else drawn ones."""
    paths = sorted(PHOTOS.glob("*.jpg"))[:count] if PHOTOS.is_dir() else []
    return [path.read_bytes() for path in paths] or [jpeg(90 + i, 130, seed=i) for i in range(count)]


def expected_features(folder: Path, pixels: list[Any]) -> Any:
    loaded = load_small(folder)
    module: Any = loaded.module
    mean, std = (np.array(values, np.float32) for values in (loaded.mean, loaded.std))
    batch = (np.stack(pixels).astype(np.float32) / 255 - mean) / std
    with torch.no_grad():
        return module.encode_image(torch.from_numpy(batch).permute(0, 3, 1, 2)).numpy()


@pytest.mark.parametrize("mode", list(PaddingMode))
async def test_image_features_are_those_of_open_clip(tmp_path: Path, mode: PaddingMode) -> None:
    contents = [*photos(6), encode(sample_image(40, 90, "P"), "PNG"), encode(sample_image(70, 30, "CMYK"))]
    opened = [Image.open(io.BytesIO(content)) for content in contents]
    expected = expected_features(tmp_path, [published(image, mode, 32, 1.25) for image in opened])
    settings = small_settings(tmp_path, preprocessing=mode.value, exif_orientation=False, alpha="drop")
    async with running(settings) as stub:
        together = await stub.EmbedImages(images(*contents))
        alone = [await stub.EmbedImages(images(content)) for content in contents]
    assert not together.errors
    features = vectors.unpack(together.features, dimension=32)
    np.testing.assert_allclose(features, expected, atol=1e-4)
    assert smallest_cosine(features, expected) >= 1 - 1e-6
    one_by_one = np.concatenate([vectors.unpack(response.features) for response in alone])
    assert smallest_cosine(one_by_one, expected) >= 1 - 1e-6


async def test_text_features_are_those_of_open_clip(stub: Any, tmp_path: Path) -> None:
    texts = ["a red dress", "", "word " * 90, "kürzer, 短い"]
    module: Any = load_small(tmp_path).module
    with torch.no_grad():
        expected = module.encode_text(open_clip.tokenize(texts)).numpy()
    response = await stub.EmbedTexts(pb.EmbedTextsRequest(texts=texts))
    np.testing.assert_allclose(vectors.unpack(response.features), expected, atol=1e-4)
    again = await stub.EmbedTexts(pb.EmbedTextsRequest(texts=texts))
    np.testing.assert_array_equal(vectors.unpack(again.features), vectors.unpack(response.features))
    assert (response.timings.cache_hits, again.timings.cache_hits) == (0, 4)


async def test_a_tensor_gives_what_its_image_gives(stub: Any) -> None:
    image = sample_image(50, 70)
    pixels = Preprocessor(size=32)(image)
    request = pb.EmbedImagesRequest(
        images=[
            pb.ImageInput(content=encode(image, "PNG")),
            pb.ImageInput(tensor=pixels.tobytes()),
            pb.ImageInput(tensor=pixels.tobytes()[:-1]),
            pb.ImageInput(),
        ]
    )
    response = await stub.EmbedImages(request)
    features = vectors.unpack(response.features, finite=False)
    np.testing.assert_allclose(features[0], features[1], atol=1e-5)
    assert np.isnan(features[2:]).all()
    assert reasons(response) == {2: "TENSOR_WRONG_SIZE", 3: "FIELD_REQUIRED"}


async def test_bad_images_fail_alone_and_say_why(stub: Any) -> None:
    bad = {
        "IMAGE_EMPTY": b"",
        "IMAGE_UNREADABLE": b"this is no image",
        "IMAGE_TRUNCATED": jpeg()[:-400],
        "IMAGE_TOO_MANY_PIXELS": png_header(50_000, 50_000),
        "IMAGE_TOO_MANY_BYTES": bytes(100_001),
    }
    odd = [encode(Image.new("RGB", size), "PNG") for size in ((1, 1), (1, 500), (700, 2))]
    response = await stub.EmbedImages(images(*bad.values(), *odd))
    assert list(reasons(response).values()) == list(bad)
    assert [error.index for error in response.errors] == list(range(len(bad)))
    assert {error.code for error in response.errors} == {grpc.StatusCode.INVALID_ARGUMENT.value[0]}
    features = vectors.unpack(response.features, finite=False)
    assert np.isnan(features[: len(bad)]).all()
    assert np.isfinite(features[len(bad) :]).all()
    assert not (await stub.EmbedImages(images(jpeg()))).errors


async def test_a_text_that_is_cut_is_told(stub: Any) -> None:
    texts = ["red", "word " * 90, "a" * 501, "word " * 76, "word " * 75]
    for _ in range(2):  # the second time from the cache
        response = await stub.EmbedTexts(pb.EmbedTextsRequest(texts=texts))
        assert [(cut.index, cut.tokens, cut.read_tokens) for cut in response.cuts] == [
            (1, 92, 77),
            (3, 78, 77),
        ]
        assert reasons(response) == {2: "TEXT_TOO_LONG"}


async def test_a_text_that_is_too_long_fails_alone(stub: Any) -> None:
    response = await stub.EmbedTexts(pb.EmbedTextsRequest(texts=["a" * 500, "a" * 501]))
    assert reasons(response) == {1: "TEXT_TOO_LONG"}
    assert np.isnan(vectors.unpack(response.features, finite=False)).all(axis=1).tolist() == [False, True]


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (images(), "FIELD_REQUIRED", "images"),
        (images(*[b"x"] * 21), "TOO_MANY_ITEMS", "images"),
        (images(b"x", encoding=vectors_pb2.VectorEncoding(dtype=77)), "FIELD_INVALID", "encoding.dtype"),  # type: ignore[arg-type]
        (images(b"x", priority=9), "FIELD_INVALID", "priority"),
        (pb.EmbedTextsRequest(), "FIELD_REQUIRED", "texts"),
        (pb.EmbedTextsRequest(texts=["a"] * 21), "TOO_MANY_ITEMS", "texts"),
    ],
)
async def test_requests_outside_the_limits_are_refused(
    stub: Any, request_: Any, reason: str, field: str
) -> None:
    is_images = isinstance(request_, pb.EmbedImagesRequest)
    refusal = await refused((stub.EmbedImages if is_images else stub.EmbedTexts)(request_))
    assert (refusal.code, refusal.reason, refusal.field) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        reason,
        field,
    )
    assert not (await stub.EmbedImages(images(jpeg()))).errors


async def test_another_model_is_refused_with_both_fingerprints(stub: Any) -> None:
    held = (await stub.GetEmbedderInfo(pb.GetEmbedderInfoRequest())).model.fingerprint
    refusal = await refused(stub.EmbedImages(images(jpeg(), expected_model_fingerprint="clip-other")))
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal.reason == "FINGERPRINT_MISMATCH"
    assert held in refusal.message
    assert "clip-other" in refusal.message
    assert refusal.metadata == {"expected": "clip-other", "actual": held}
    response = await stub.EmbedImages(images(jpeg(), expected_model_fingerprint=held))
    assert response.features.model_fingerprint == held


async def test_info_tells_model_and_limits(stub: Any) -> None:
    info = await stub.GetEmbedderInfo(pb.GetEmbedderInfoRequest())
    assert (info.model.architecture, info.model.pretrained) == ("small", "random:7")
    assert (info.model.dimension, info.model.image_size) == (32, 32)
    assert (info.model.preprocessing, info.model.target_ratio) == ("targetpad", 1.25)
    assert (info.model.device, info.model.dtype, info.model.dtype_cosine) == ("cpu", "float32", 1.0)
    for name, value in LIMITS.items():
        assert getattr(info.limits, name) == value
    assert info.version


async def test_identity_follows_mode_ratio_and_weights(tmp_path: Path) -> None:
    found = set()
    for changes in (
        {},
        {"preprocessing": "squarepad"},
        {"target_ratio": 1.5},
        {"pretrained": "random:8"},
    ):
        async with running(small_settings(tmp_path, **changes)) as stub:
            found.add((await stub.GetEmbedderInfo(pb.GetEmbedderInfoRequest())).model.fingerprint)
    assert len(found) == 4


async def test_features_are_written_as_asked(stub: Any) -> None:
    packed = await stub.EmbedImages(images(jpeg()))
    half = await stub.EmbedImages(
        images(jpeg(), encoding=vectors_pb2.VectorEncoding(dtype=vectors_pb2.VECTOR_TYPE_FLOAT16))
    )
    plain = await stub.EmbedImages(images(jpeg(), encoding=vectors_pb2.VectorEncoding(plain_floats=True)))
    assert len(packed.features.data) == 128
    assert len(half.features.data) == 64
    assert len(plain.features.rows) == 1
    exact = vectors.unpack(packed.features)
    np.testing.assert_array_equal(vectors.unpack(plain.features), exact)
    np.testing.assert_allclose(vectors.unpack(half.features), exact, atol=1e-2)


async def test_a_stream_answers_every_batch_and_survives_bad_ones(stub: Any) -> None:
    async def requests() -> AsyncIterator[pb.EmbedStreamRequest]:
        for number in range(30):
            yield pb.EmbedStreamRequest(batch_id=number, images=images(jpeg(seed=number), b"bad"))
        yield pb.EmbedStreamRequest(batch_id=30, texts=pb.EmbedTextsRequest(texts=["a", "b"]))
        yield pb.EmbedStreamRequest(batch_id=31)
        yield pb.EmbedStreamRequest(batch_id=32, images=images(*[b"x"] * 21))

    answers = {answer.batch_id: answer async for answer in stub.EmbedStream(requests())}
    assert sorted(answers) == list(range(33))
    for number in range(30):
        assert reasons(answers[number].images) == {1: "IMAGE_UNREADABLE"}
        alone = await stub.EmbedImages(images(jpeg(seed=number)))
        ours = vectors.unpack(answers[number].images.features, finite=False)
        np.testing.assert_allclose(ours[0], vectors.unpack(alone.features)[0], atol=1e-5)
    assert vectors.unpack(answers[30].texts.features).shape == (2, 32)
    assert answers[31].error.reason == errors_pb2.FIELD_REQUIRED
    assert answers[32].error.reason == errors_pb2.TOO_MANY_ITEMS


async def test_many_streams_share_a_small_queue_without_a_refusal(tmp_path: Path) -> None:
    settings = small_settings(tmp_path, max_batch_items=8, max_queue_items=8, image_cache_items=0)

    async def requests(seed: int) -> AsyncIterator[pb.EmbedStreamRequest]:
        for number in range(8):
            yield pb.EmbedStreamRequest(batch_id=number, images=images(*[jpeg(seed=seed)] * 4))

    async with running(settings) as stub:

        async def run(seed: int) -> list[bool]:
            return [answer.HasField("images") async for answer in stub.EmbedStream(requests(seed))]

        results = await asyncio.gather(*(run(seed) for seed in range(5)))
    assert results == [[True] * 8] * 5


async def test_a_broken_off_stream_leaves_the_service_well(stub: Any) -> None:
    async def endless() -> AsyncIterator[pb.EmbedStreamRequest]:
        while True:
            yield pb.EmbedStreamRequest(batch_id=1, images=images(*[jpeg()] * 10))

    call = stub.EmbedStream(endless())
    await call.read()
    call.cancel()
    assert not (await stub.EmbedImages(images(jpeg()), timeout=30)).errors


async def test_calls_at_the_same_time_get_their_own_answers(stub: Any) -> None:
    async def embed(seed: int) -> Any:
        return vectors.unpack((await stub.EmbedImages(images(jpeg(seed=seed)))).features)[0]

    alone = [await embed(seed) for seed in range(8)]
    together = await asyncio.gather(*(embed(seed % 8) for seed in range(32)))
    for number, features in enumerate(together):
        np.testing.assert_allclose(features, alone[number % 8], atol=1e-5)


async def test_a_deadline_that_cannot_be_met_is_kept(stub: Any) -> None:
    refusal = await refused(stub.EmbedImages(images(jpeg()), timeout=0.000001))
    assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not (await stub.EmbedImages(images(jpeg()))).errors


async def test_random_requests_are_answered_or_refused(tmp_path: Path) -> None:
    source = random.Random(20220619)
    codes: Counter[str] = Counter()
    async with running(small_settings(tmp_path)) as stub:
        for _ in range(REQUESTS):
            if source.random() < 0.5:
                request = random_message(pb.EmbedImagesRequest(), source)
                method = stub.EmbedImages
            else:
                request = random_message(pb.EmbedTextsRequest(), source)
                method = stub.EmbedTexts
            if source.random() < 0.8:
                request.expected_model_fingerprint = ""
            call = method(request, timeout=30)
            code, said = await call.code(), await call.details()
            assert code not in FAULTS, (request, said)
            codes[code.name] += 1
        assert codes["OK"] > 0
        assert codes["INVALID_ARGUMENT"] > 0

        # A stream answers bad batches one by one and goes on.
        batches = [random_message(pb.EmbedStreamRequest(), source) for _ in range(REQUESTS // 4)]
        sound = pb.EmbedStreamRequest(batch_id=7, texts=pb.EmbedTextsRequest(texts=["red"]))
        answers = [answer async for answer in stub.EmbedStream(iter([*batches, sound]), timeout=120)]
        assert len(answers) == len(batches) + 1
        assert any(answer.batch_id == 7 and answer.texts.features.data for answer in answers)
