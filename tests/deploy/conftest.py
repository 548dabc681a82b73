"""The pictures that stacks index, and the images that they run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from combiner_service.garments.catalog import make_catalog
from tests.deploy.stack import GARMENTS, Stack, environment, let_containers_read


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of drawn garments with their manifest."""
    folder = tmp_path_factory.mktemp("pictures") / "garments"
    make_catalog(folder, size=GARMENTS, seed=3, workers=2, picture=(192, 256))
    let_containers_read(folder)
    return folder


@pytest.fixture(scope="session")
def items(pictures: Path) -> list[str]:
    """The ids of the garments."""
    return [json.loads(line)["id"] for line in (pictures / "garments.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def images(pictures: Path) -> None:
    """Every image, built from this working tree."""
    Stack("cirbuild", ["embedded"], environment(pictures)).compose(
        "--profile", "index", "build", timeout=1500
    )
