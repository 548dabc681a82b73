"""The table of docs/models.md against what open_clip publishes."""

from __future__ import annotations

import pytest

from scripts.generate_models import TARGET, published_table, up_to_date
from tests.system.model_families import FAMILIES

pytestmark = [pytest.mark.torch, pytest.mark.slow]


def test_the_table_of_families_is_up_to_date() -> None:
    assert len(published_table()) == len(FAMILIES) + 2
    assert up_to_date(), "run: python scripts/generate_models.py"


def test_each_family_is_measured() -> None:
    measured = TARGET.read_text(encoding="utf-8").split("<!-- measured -->")[1]
    for family in FAMILIES:
        assert f"| {family.architecture}, `{family.tag}` |" in measured
