"""The pictures that stacks index, and the images that they run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from garments.catalog import make_catalog
from tests.deploy.stack import GARMENTS, Stack, environment, let_containers_read, why_no_image


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of drawn garments with their manifest."""
    folder = tmp_path_factory.mktemp("pictures") / "garments"
    make_catalog(folder, size=GARMENTS, seed=3, workers=2, image_size=(192, 256))
    let_containers_read(folder)
    return folder


@pytest.fixture(scope="session")
def items(pictures: Path) -> list[str]:
    """The ids of the garments."""
    return [json.loads(line)["id"] for line in (pictures / "garments.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def images(pictures: Path) -> None:
    """Every image, built from this working tree; with CIR_DOCKER_BUILD=0 those that are here."""
    if os.environ.get("CIR_DOCKER_BUILD", "1") == "1":
        variables = environment(pictures)
        if reason := why_no_image(variables["BASE_IMAGE"]):
            pytest.skip(f"images cannot be built: {reason}")
        stack = Stack("cirbuild", ["embedded"], variables)
        stack.compose("--profile", "index", "build", timeout=1500)
