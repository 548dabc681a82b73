"""A pass that is alone takes all threads, passes side by side divide them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from embedder_service.shared_cores import SharedCores


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("threads", "lanes", "shared"), [(8, 2, 4), (2, 2, 1), (1, 2, 1), (5, 2, 2), (3, 8, 1)]
)
def test_a_pass_alone_takes_all_and_others_divide(threads: int, lanes: int, shared: int) -> None:
    cores = SharedCores(threads, lanes)
    for passes, expected in ((1, threads), (lanes, shared), (1, threads)):
        cores(passes)
        assert torch.get_num_threads() == expected


def test_no_number_is_one_per_core() -> None:
    SharedCores(0, 1)(1)
    assert torch.get_num_threads() == os.cpu_count()
