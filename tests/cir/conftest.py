from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cir.fake_search import FakeSearch, fake_search


@pytest.fixture
def search_service() -> Iterator[FakeSearch]:
    with fake_search() as fake:
        yield fake
