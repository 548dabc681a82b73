"""Statements of docs/embedder.md against the code: settings, metrics, defaults, exit code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cir.images.decode import Decoder
from embedder_service.metrics import EmbedderMetrics
from embedder_service.settings import EmbedderSettings
from service_runtime.settings import ServiceSettings
from service_runtime.watchdog import EXIT_CODE

pytestmark = pytest.mark.torch

TEXT = (Path(__file__).parents[2] / "docs" / "embedder.md").read_text(encoding="utf-8")
OWN = EmbedderSettings.model_fields.keys() - ServiceSettings.model_fields.keys()


@pytest.mark.parametrize("name", sorted(OWN))
def test_every_setting_of_the_embedder_is_explained(name: str) -> None:
    assert f"`{name}`" in TEXT


def test_no_metric_is_missing() -> None:
    fed = [metric.name for collector in EmbedderMetrics().collectors() for metric in collector.collect()]
    assert fed
    for name in fed:
        assert re.search(rf"`{name}(_total)?\{{", TEXT), name


@pytest.mark.parametrize(
    ("setting", "stated"),
    [("text_cache_items", "16,384"), ("image_cache_items", "1,024"), ("min_dtype_cosine", "0.999")],
)
def test_defaults_are_as_stated(setting: str, stated: str) -> None:
    assert float(stated.replace(",", "")) == EmbedderSettings.model_fields[setting].default
    assert f"`{setting}` ({stated})" in TEXT


def test_the_switches_of_the_published_transform_are_as_stated() -> None:
    flags = re.search(r"With `(--exif-orientation [^`]*)`", TEXT)
    assert flags is not None
    settings = EmbedderSettings.load(flags[1].split())
    assert Decoder(orient=settings.exif_orientation, background=settings.background) == Decoder(
        orient=False, background=None
    )


def test_the_exit_code_is_as_stated() -> None:
    assert f"exit code {EXIT_CODE}" in TEXT
