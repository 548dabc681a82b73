"""Memory of batches on their way to a device: used again, and never by two at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from embedder_service.engine import LaunchingModel
from embedder_service.model.clip import ClipModel
from embedder_service.model.cuda import CudaModel, StagingBuffers

pytestmark = pytest.mark.torch


def rows(count: int, value: int, side: int = 3) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    return [np.full((side, side), value + number, np.uint8) for number in range(count)]


def test_memory_is_used_again_once_it_was_given_back() -> None:
    staging = StagingBuffers(pinned=False)
    first = staging.stack(rows(4, 10))
    staging.give_back(first)
    second = staging.stack(rows(3, 20))
    assert second.data_ptr() == first.data_ptr()
    assert second[:3, 0, 0].tolist() == [20, 21, 22]


def test_batches_in_flight_share_nothing() -> None:
    staging = StagingBuffers(pinned=False)
    flying = [staging.stack(rows(4, 10 * number)) for number in range(3)]
    assert [buffer[0, 0, 0].item() for buffer in flying] == [0, 10, 20]
    staging.give_back(flying[1])
    assert staging.stack(rows(2, 50)).data_ptr() == flying[1].data_ptr()
    assert [buffer[0, 0, 0].item() for buffer in flying] == [0, 50, 20]


def test_a_larger_batch_gets_larger_memory_which_is_kept() -> None:
    staging = StagingBuffers(pinned=False)
    staging.give_back(staging.stack(rows(1, 0)))
    large = staging.stack(rows(8, 0))
    staging.give_back(large)
    assert staging.stack(rows(2, 0)).data_ptr() == large.data_ptr()


def test_shapes_and_dtypes_are_kept_apart() -> None:
    staging = StagingBuffers(pinned=False)
    small = staging.stack(rows(2, 0))
    staging.give_back(small)
    assert staging.stack(rows(2, 0, side=5)).shape[1:] == (5, 5)
    tokens = staging.stack([np.arange(3)] * 2)
    assert tokens.dtype is torch.int64
    with pytest.raises(ValueError, match="same shape"):
        staging.stack([*rows(1, 0), *rows(1, 0, side=4)])


def test_only_the_model_on_cuda_is_launched_ahead() -> None:
    assert issubclass(CudaModel, LaunchingModel)
    assert not issubclass(ClipModel, LaunchingModel)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_launched_passes_give_the_features_of_plain_ones(tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.embedder_service.small_model import load_small

    plain = ClipModel(load_small(tmp_path_factory.mktemp("model")), torch.device("cuda"), torch.float32)
    model = CudaModel(plain)
    batches = [np.random.default_rng(seed).integers(0, 256, (9, 32, 32, 3), np.uint8) for seed in range(4)]
    waits = [model.launch_images(list(batch)) for batch in batches]
    for batch, wait in zip(batches, waits, strict=True):
        np.testing.assert_allclose(wait(), plain.encode_images(batch), atol=1e-4)
