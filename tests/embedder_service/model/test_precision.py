"""Device, threads and dtype: chosen from the host, and a dtype is kept only within the bound."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from embedder_service.model.device import CpuThreadShare, choose_device
from embedder_service.model.precision import choose_dtype, verify_dtype
from embedder_service.probe import smallest_cosine
from service_runtime.errors import StartupError
from tests.embedder_service.small_model import load_small

pytestmark = pytest.mark.torch

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2"}, torch.float32),
        (set(), torch.float32),
        ({"avx2", "avx512_bf16"}, torch.bfloat16),
        ({"amx_bf16", "amx_tile"}, torch.bfloat16),
    ],
)
def test_auto_takes_bfloat16_where_the_cpu_multiplies_it(flags: set[str], expected: torch.dtype) -> None:
    assert choose_dtype("auto", CPU, frozenset(flags)) is expected
    assert choose_dtype("float32", CPU, frozenset(flags)) is torch.float32


def test_devices_that_are_not_there_are_told() -> None:
    assert choose_device("cpu") == CPU
    with pytest.raises(StartupError, match="is not known"):
        choose_device("abacus")
    with pytest.raises(StartupError, match="CUDA devices were found"):
        choose_device("cuda:99")


def test_a_reduced_dtype_is_measured_and_kept(tmp_path: Path) -> None:
    trued = verify_dtype(load_small(tmp_path), CPU, torch.bfloat16, 0.999)
    assert trued.model.dtype is torch.bfloat16
    assert 0.999 <= trued.cosine < 1
    assert trued.refused_dtype == ""


def test_below_the_bound_float32_takes_its_place(tmp_path: Path) -> None:
    trued = verify_dtype(load_small(tmp_path), CPU, torch.bfloat16, 1.0)
    assert trued.model.dtype is torch.float32
    assert (trued.cosine, trued.refused_dtype) == (1.0, "bfloat16")
    assert trued.refused_cosine < 1


def test_features_that_are_not_finite_have_no_cosine() -> None:
    good = np.ones((2, 3), np.float32)
    bad = good.copy()
    bad[1, 1] = np.nan
    assert smallest_cosine(good, good) == pytest.approx(1)
    assert smallest_cosine(good, bad) == 0


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("threads", "lanes", "shared"), [(8, 2, 4), (2, 2, 1), (1, 2, 1), (5, 2, 2), (3, 8, 1)]
)
def test_a_pass_alone_takes_all_and_others_divide(threads: int, lanes: int, shared: int) -> None:
    cores = CpuThreadShare(threads, lanes)
    for passes, expected in ((1, threads), (lanes, shared), (1, threads)):
        cores(passes)
        assert torch.get_num_threads() == expected


def test_no_number_is_one_per_core() -> None:
    CpuThreadShare(0, 1)(1)
    assert torch.get_num_threads() == os.cpu_count()
