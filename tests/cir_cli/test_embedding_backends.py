from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cir_cli.embedding_backends import LocalModel, RemoteModel, by_bytes
from cir_cli.errors import Failure
from cir_cli.options import Access
from embedder_service.application import EmbedderApplication
from service_runtime.server import serving
from tests.embedder_service.conftest import small_settings

pytestmark = pytest.mark.torch


def picture(colour: str, size: int = 50) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (size, 2 * size), colour).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalModel]:
    model = LocalModel(small_settings(tmp_path), 4)
    yield model
    model.close()


@pytest.mark.service
async def test_a_running_embedder_gives_what_the_model_in_this_process_gives(
    tmp_path: Path, local: LocalModel
) -> None:
    settings = small_settings(tmp_path)
    pictures = [picture("red"), b"broken", picture("blue"), b""]
    texts = ["is red", ""]
    async with serving(EmbedderApplication(settings), settings) as address:

        def ask() -> None:
            remote = RemoteModel(address, Access(), 64)
            try:
                assert remote.identity == local.identity
                for here, there in (
                    (local.embed_images(pictures), remote.embed_images(pictures)),
                    (local.embed_texts(texts), remote.embed_texts(texts)),
                ):
                    np.testing.assert_allclose(here.features, there.features, atol=1e-5)
                    assert set(here.errors) == set(there.errors)
                assert set(remote.embed_images(pictures).errors) == {1, 3}
            finally:
                remote.close()

        await asyncio.to_thread(ask)


@pytest.mark.service
def test_an_embedder_that_is_not_there_is_a_failure() -> None:
    with pytest.raises(Failure, match=r"the embedder at 127\.0\.0\.1:1 failed"):
        RemoteModel("127.0.0.1:1", Access(), 4)


def test_a_model_that_cannot_be_had_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="no-such"):
        LocalModel(small_settings(tmp_path, pretrained="no-such"), 4)


def test_pictures_that_cannot_be_read_fail_alone(local: LocalModel) -> None:
    found = local.embed_images([b"", picture("green")])
    assert list(found.errors) == [0]
    assert np.isfinite(found.features[1]).all()


@given(st.lists(st.integers(0, 30), max_size=12))
def test_parts_hold_no_more_bytes_than_a_message(sizes: list[int]) -> None:
    parts = by_bytes(sizes, 20)
    assert [index for part in parts for index in part] == list(range(len(sizes)))
    for part in parts:
        assert part
        assert sum(sizes[index] for index in part) <= 20 or len(part) == 1
    for one, following in pairwise(parts):
        assert sum(sizes[i] for i in one) + sizes[following[0]] > 20 or sizes[one[-1]] > 20
