"""Each thread's share of the cores is its own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from embedder_service.shared_cores import SharedCores


@pytest.mark.parametrize(
    ("threads", "lanes", "shared"), [(8, 2, 4), (2, 2, 1), (1, 2, 1), (5, 2, 2), (3, 8, 1), (4, 1, 4)]
)
def test_a_pass_alone_takes_all_and_others_divide(threads: int, lanes: int, shared: int) -> None:
    cores = SharedCores(threads, lanes)
    both_set = threading.Barrier(2, timeout=30)

    def threads_of(passes: int) -> int:
        cores(passes)
        both_set.wait()
        return torch.get_num_threads()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(threads_of, [1, lanes])) == [threads, shared if lanes > 1 else threads]
