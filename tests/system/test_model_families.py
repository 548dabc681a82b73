"""Features, pixels and tokens of each family through gRPC, against open_clip called directly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image

from cir.embedder.v1 import embedder_pb2
from cir.vectors import unpack
from embedder_service.images.preprocess import PaddingMode
from embedder_service.model.export import export
from embedder_service.model.load import load
from embedder_service.settings import EmbedderSettings
from service_runtime.errors import StartupError
from tests.embedder_service.conftest import running
from tests.embedder_service.sample_images import encode, sample_image
from tests.system.model_families import FAMILIES, REPOSITORY, Published

pytestmark = [pytest.mark.slow, pytest.mark.service, pytest.mark.torch, pytest.mark.timeout(600)]

TEXTS = [
    "", "a photo of a red dress", "IS SHORTER; has long_sleeves & no collar!", "ein rotes Kleid, größer",
    "красное платье", "  two   spaces ", "the same shirt in blue " * 60,
]  # fmt: skip
SIZES = [(90, 60), (60, 90), (300, 410), (411, 300), (256, 256), (40, 170)]


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def published(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Published]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        yield Published(request.param, tmp_path_factory.mktemp("family"), patch)


def settings_of(published: Published, way: str, **changes: Any) -> EmbedderSettings:
    """Settings that name the model in one of the ways."""
    family = published.family
    ways: dict[str, dict[str, Any]] = {
        "tag": {"architecture": family.architecture, "pretrained": family.tag},
        "hub": {"architecture": f"hf-hub:{REPOSITORY}"},
        "folder": {"architecture": f"local-dir:{published.folder}"},
        "file": {
            "architecture": family.architecture,
            "pretrained": str(published.bare),
            **(family.bare or {}),
        },
    }
    chosen: dict[str, Any] = {
        "port": 0,
        "log_level": "error",
        "device": "cpu",
        "dtype": "float32",
        "device_batch_items": 2,
        "image_cache_items": 0,
        "text_cache_items": 0,
        "weights_cache": published.cache,
        "preprocessing": "clip",
        "exif_orientation": False,
        "alpha": "drop",
    }
    return EmbedderSettings(**(chosen | ways[way] | changes))


def photos() -> list[Image.Image]:
    return [sample_image(*size, seed=number) for number, size in enumerate(SIZES)]


async def test_features_are_those_of_open_clip_by_every_way(published: Published) -> None:
    images = photos()
    reference = published.reference
    expected_images, expected_texts = reference.images(images), reference.texts(TEXTS)
    fingerprints = {}
    for way in ("tag", "hub", "folder", "file"):
        async with running(settings_of(published, way)) as stub:
            info = (await stub.GetEmbedderInfo(embedder_pb2.GetEmbedderInfoRequest())).model
            check_info(published, info)
            fingerprints[way] = info.fingerprint
            answer = await stub.EmbedImages(
                embedder_pb2.EmbedImagesRequest(
                    images=[embedder_pb2.ImageInput(content=encode(image, "PNG")) for image in images]
                )
            )
            assert not answer.errors
            np.testing.assert_allclose(unpack(answer.features), expected_images, atol=1e-4, err_msg=way)
            answer = await stub.EmbedTexts(embedder_pb2.EmbedTextsRequest(texts=TEXTS))
            assert not answer.errors
            np.testing.assert_allclose(unpack(answer.features), expected_texts, atol=1e-4, err_msg=way)
    assert len(set(fingerprints.values())) == 1, fingerprints


def check_info(published: Published, info: Any) -> None:
    """All that the features depend on is said."""
    tag = published.published
    np.testing.assert_allclose(list(info.mean), tag["mean"])
    np.testing.assert_allclose(list(info.std), tag["std"])
    assert (info.interpolation, info.resize_mode) == (tag["interpolation"], tag["resize_mode"])
    assert info.activation == ("quick_gelu" if published.quick_gelu else "gelu")
    text = published.config["text_cfg"]
    assert info.tokenizer == text.get("hf_tokenizer_name", "clip")
    assert info.context_length == text.get("context_length", 77)
    assert info.dimension == published.config["embed_dim"]


def test_pixels_and_tokens_are_those_of_open_clip(published: Published) -> None:
    reference = published.reference
    served = load(settings_of(published, "folder"))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (served.info.mean, served.info.std))
    for image in photos():
        ours = served.preprocessor(image)
        theirs = ((reference.transform(image) * std + mean) * 255).round().to(torch.uint8)
        np.testing.assert_array_equal(ours, theirs.permute(1, 2, 0).numpy())
    np.testing.assert_array_equal(served.model.tokenize(TEXTS), reference.tokenizer(TEXTS).numpy())


def test_the_method_pads_where_the_model_crops(published: Published) -> None:
    served = load(settings_of(published, "folder", preprocessing="auto"))
    crops = published.published["resize_mode"] == "shortest"
    assert served.info.preprocessing == ("targetpad" if crops else "clip")
    assert served.preprocessor.mode is (PaddingMode.TARGETPAD if crops else PaddingMode.CLIP)


def test_a_bare_file_that_does_not_say_it_is_refused(published: Published) -> None:
    family = published.family
    settings = settings_of(published, "file", **dict.fromkeys(family.bare or {}))
    if family.bare is None:
        assert load(settings).info.fingerprint
        return
    with pytest.raises(StartupError, match=r"--quick-gelu true .* or --quick-gelu false"):
        load(settings)


async def test_a_model_folder_of_it_gives_the_same_without_torch(
    published: Published, tmp_path: Path
) -> None:
    """For those whose words are made in different ways: CLIP's, SigLIP's with two fillings, XLM-R's."""
    family = published.family
    if not (family.tower or "SigLIP" in family.architecture or family.architecture.startswith("PE")):
        pytest.skip("its towers and tokens are of the kinds of another family")
    theirs = load(settings_of(published, "folder"))
    made = export(settings_of(published, "folder"), tmp_path / "model").folder
    async with running(settings_of(published, "folder", architecture=str(made))) as stub:
        info = (await stub.GetEmbedderInfo(embedder_pb2.GetEmbedderInfoRequest())).model
        assert (info.runtime, info.fingerprint) == ("openvino", theirs.info.fingerprint)
        check_info(published, info)
        images = [embedder_pb2.ImageInput(content=encode(image, "PNG")) for image in photos()]
        answer = await stub.EmbedImages(embedder_pb2.EmbedImagesRequest(images=images))
        expected = published.reference.images(photos())
        np.testing.assert_allclose(unpack(answer.features), expected, atol=1e-4)
        answer = await stub.EmbedTexts(embedder_pb2.EmbedTextsRequest(texts=TEXTS))
        np.testing.assert_allclose(unpack(answer.features), published.reference.texts(TEXTS), atol=1e-4)
        tokens = theirs.model.tokenize(TEXTS)
        cuts = {cut.index: cut.tokens for cut in answer.cuts}
        assert cuts == theirs.model.long_texts(TEXTS, tokens)
