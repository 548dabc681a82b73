"""Features through gRPC against open_clip called directly, on real photos and checkpoint files.

What is expected is computed without this code: torchvision's transforms composed as the paper's code
composes them, and open_clip's own model, read from the same file.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import transforms
from torchvision.transforms import functional

from cir.embedder.v1 import embedder_pb2
from cir.vectors import unpack
from embedder_service.settings import EmbedderSettings
from tests.embedder_service.conftest import running

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "clothing" / "images"
TEXTS = ["", "is red and has long sleeves", "the same shirt in blue, without a collar " * 20, "ärmellos 日本"]

pytestmark = [
    pytest.mark.skipif(not PHOTOS.is_dir(), reason="the clothing photos are not on this machine"),
    pytest.mark.timeout(300),
    pytest.mark.service,
    pytest.mark.torch,
]

Features = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    """Six photos from all over, and a wide and a tall cut that every mode treats differently."""
    paths = sorted(PHOTOS.glob("*.jpg"))
    contents = [path.read_bytes() for path in paths[:: len(paths) // 6][:6]]
    with Image.open(io.BytesIO(contents[0])) as photo:
        wide = photo.convert("RGB").crop((0, 0, photo.width, photo.width // 3))
        tall = photo.convert("RGB").crop((0, 0, photo.width // 3, photo.height))
    for cut in (wide, tall):
        buffer = io.BytesIO()
        cut.save(buffer, "PNG")
        contents.append(buffer.getvalue())
    return contents


def published(content: bytes, mode: str, size: int) -> torch.Tensor:
    """The pixels that the paper's code makes, normalised: float32 (3, size, size)."""
    image = Image.open(io.BytesIO(content))
    width, height = image.size
    longest = max(width, height)
    if mode == "squarepad" or (mode == "targetpad" and longest / min(width, height) >= 1.25):
        side = longest / 1.25 if mode == "targetpad" else longest
        across, down = (max(int((side - length) / 2), 0) for length in (width, height))
        image = functional.pad(image, [across, down, across, down], 0, "constant")
    result: torch.Tensor = transforms.Compose(
        [
            transforms.Resize(size, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            lambda cropped: cropped.convert("RGB"),
            transforms.ToTensor(),
            transforms.Normalize(open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD),
        ]
    )(image)
    return result


class Checkpoint:
    """An architecture with seeded weights in a file, and open_clip's own model read from it."""

    def __init__(self, architecture: str, path: Path) -> None:
        self.architecture, self.path = architecture, path
        torch.manual_seed(11)
        state = open_clip.create_model(architecture).state_dict()
        if path.suffix == ".safetensors":
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
        else:
            torch.save(state, path)
        self.model: Any = open_clip.create_model(architecture, pretrained=str(path)).eval()

    def images(self, contents: Sequence[bytes], mode: str) -> Features:
        """What `model.encode_image` gives for the published pixels."""
        with torch.inference_mode():
            pixels = torch.stack([published(content, mode, 224) for content in contents])
            result: Features = self.model.encode_image(pixels).numpy()
        return result

    def texts(self) -> Features:
        """What `model.encode_text` gives."""
        with torch.inference_mode():
            result: Features = self.model.encode_text(open_clip.tokenize(TEXTS)).numpy()
        return result

    def settings(self, **changes: Any) -> EmbedderSettings:
        """Settings of a service with this checkpoint that computes everything anew."""
        chosen: dict[str, Any] = {
            "port": 0,
            "log_level": "error",
            "architecture": self.architecture,
            "pretrained": str(self.path),
            "quick_gelu": False,
            "device": "cpu",
            "dtype": "float32",
            "image_cache_items": 0,
            "text_cache_items": 0,
            "device_batch_items": 4,
        }
        return EmbedderSettings(**(chosen | changes))


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """ViT-B-32 from safetensors."""
    return Checkpoint("ViT-B-32", tmp_path_factory.mktemp("vit") / "vit.safetensors")


def images_request(contents: Sequence[bytes]) -> embedder_pb2.EmbedImagesRequest:
    return embedder_pb2.EmbedImagesRequest(
        images=[embedder_pb2.ImageInput(content=content) for content in contents]
    )


async def embed_images(stub: Any, contents: Sequence[bytes]) -> Features:
    response = await stub.EmbedImages(images_request(contents), timeout=120)
    assert not response.errors
    return unpack(response.features)


async def embed_texts(stub: Any) -> Features:
    response = await stub.EmbedTexts(embedder_pb2.EmbedTextsRequest(texts=TEXTS), timeout=120)
    assert not response.errors
    return unpack(response.features)


def smallest_cosine(left: Features, right: Features) -> float:
    left, right = left.astype(np.float64), right.astype(np.float64)
    products = (left * right).sum(axis=1)
    return float((products / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)).min())


EXACT = 1 - 1e-6


@pytest.mark.parametrize("mode", ["targetpad", "squarepad", "clip"])
async def test_every_preprocessing_in_float32(vit: Checkpoint, photos: list[bytes], mode: str) -> None:
    expected = await asyncio.to_thread(vit.images, photos, mode)
    async with running(vit.settings(preprocessing=mode)) as stub:
        together = await embed_images(stub, photos)
        assert smallest_cosine(together, expected) >= EXACT
        np.testing.assert_allclose(together, expected, atol=1e-4)
        if mode != "targetpad":
            return
        alone = np.concatenate([await embed_images(stub, [content]) for content in photos])
        assert smallest_cosine(alone, expected) >= EXACT
        assert smallest_cosine(await embed_texts(stub), vit.texts()) >= EXACT
        await check_stream(stub, photos, expected, vit.texts())
        await check_tensors(stub, photos, expected)


async def check_stream(stub: Any, photos: list[bytes], images: Features, texts: Features) -> None:
    """The stream's answers are those of the calls, whatever order they come in."""

    async def requests() -> AsyncIterator[embedder_pb2.EmbedStreamRequest]:
        for number in range(0, len(photos), 3):
            yield embedder_pb2.EmbedStreamRequest(
                batch_id=number, images=images_request(photos[number : number + 3])
            )
        yield embedder_pb2.EmbedStreamRequest(batch_id=99, texts=embedder_pb2.EmbedTextsRequest(texts=TEXTS))

    answered = []
    async for response in stub.EmbedStream(requests(), timeout=120):
        answered.append(response.batch_id)
        if response.batch_id == 99:
            assert smallest_cosine(unpack(response.texts.features), texts) >= EXACT
        else:
            found = unpack(response.images.features)
            expected = images[response.batch_id : response.batch_id + 3]
            assert smallest_cosine(found, expected) >= EXACT
    assert sorted(answered) == [*range(0, len(photos), 3), 99]


async def check_tensors(stub: Any, photos: list[bytes], expected: Features) -> None:
    """Pixels that a caller preprocessed give what the encoded pictures give."""
    mean, std = (
        np.array(values, np.float32).reshape(3, 1, 1)
        for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    tensors = [
        ((published(content, "targetpad", 224).numpy() * std + mean) * 255).round().astype(np.uint8)
        for content in photos
    ]
    response = await stub.EmbedImages(
        embedder_pb2.EmbedImagesRequest(
            images=[
                embedder_pb2.ImageInput(tensor=np.ascontiguousarray(pixels.transpose(1, 2, 0)).tobytes())
                for pixels in tensors
            ]
        ),
        timeout=120,
    )
    assert not response.errors
    assert smallest_cosine(unpack(response.features), expected) >= EXACT


@pytest.mark.parametrize(
    ("dtype", "images", "texts"),
    [("bfloat16", 0.9999, 0.999), ("float16", 0.9999, 0.9999), ("int8", 0.9995, 0.999)],
)
async def test_reduced_dtypes_keep_their_bounds(
    vit: Checkpoint, photos: list[bytes], dtype: str, images: float, texts: float
) -> None:
    chosen = photos[:3]
    expected = await asyncio.to_thread(vit.images, chosen, "targetpad")
    async with running(vit.settings(dtype=dtype)) as stub:
        info = await stub.GetEmbedderInfo(embedder_pb2.GetEmbedderInfoRequest(), timeout=30)
        assert (info.model.dtype, info.model.refused_dtype) == (dtype, "")
        assert info.model.dtype_cosine >= 0.999
        assert bool(info.model.int8_layers) == (dtype == "int8")
        together = await embed_images(stub, chosen)
        assert smallest_cosine(together, expected) >= images
        alone = np.concatenate([await embed_images(stub, [content]) for content in chosen])
        assert smallest_cosine(alone, together) >= images
        assert smallest_cosine(await embed_texts(stub), vit.texts()) >= texts


async def test_a_residual_network_from_a_torch_file(photos: list[bytes], tmp_path: Path) -> None:
    network = await asyncio.to_thread(Checkpoint, "RN50", tmp_path / "rn50.pt")
    chosen = photos[:3]
    async with running(network.settings()) as stub:
        found = await embed_images(stub, chosen)
        assert smallest_cosine(found, network.images(chosen, "targetpad")) >= EXACT
        assert smallest_cosine(await embed_texts(stub), network.texts()) >= EXACT
