"""The benchmark of `cir adapt` in small: a row with every trouble, beside its baselines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.adapt import ROWS, main

pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_troubled_catalog_beats_the_sum_and_stands_beside_every_baseline(tmp_path: Path) -> None:
    name = "30 % missing, 10 % wrong, 10 % doubled"
    path = tmp_path / "figures.json"
    main(["--items", "400", "--epochs", "2", "--row", name, "--json", str(path)])

    rows = {row["trained on"]: row for row in json.loads(path.read_text())["rows"]}
    assert {"(image)", "(text)", "(sum)"} < set(rows)
    assert any(label.startswith("(shipped") for label in rows)
    assert rows[name]["usable"] < 400
    assert rows[name]["R@1"] > rows["(sum)"]["R@1"]
    assert name in ROWS
