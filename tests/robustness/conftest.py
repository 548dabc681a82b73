"""The three services, started once for the tests that leave them as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.robustness.stack import Stack, running_stack


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Embedder, combiner and search as processes."""
    with running_stack(tmp_path_factory.mktemp("stack")) as started:
        yield started
