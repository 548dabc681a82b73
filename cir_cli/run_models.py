"""Exporting, comparing and listing model folders. Imports what the extras bring."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cir_cli.errors import Failure
from cir_cli.run_features import settings_of
from embedder_service.light.folder import is_model_folder, read_document
from embedder_service.light.model import load_light, read_source
from embedder_service.light.published import is_published, published_sizes
from embedder_service.loading import SHIPPED
from embedder_service.probe import probe_features, probe_images
from embedder_service.settings import EmbedderSettings
from service_runtime.errors import StartupError

if TYPE_CHECKING:
    from embedder_service.model.export import Exported

_DTYPES = ("float32", "bfloat16", "int8")
_BATCH = 8
_TEXT = "the same shirt in dark blue"


def run_export(chosen: dict[str, Any], out: Path) -> Exported:
    """Write a model folder.

    Raises:
        Failure: it cannot be written, or the model cannot be exported.
    """
    # Only here: it loads torch.
    from embedder_service.model.export import export

    try:
        return export(settings_of(chosen), out)
    except StartupError as error:
        raise Failure(str(error)) from error


def run_check(folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Return cosine, largest difference to torch's features, and CPU milliseconds, for each dtype.

    Raises:
        Failure: the folder cannot be used.
    """
    try:
        source = read_source(folder)
    except StartupError as error:
        raise Failure(str(error)) from error
    rows: list[dict[str, Any]] = []
    # An export by others comes without torch's features: its own in float32 take their place.
    expected = source.expected
    for dtype in _DTYPES:
        settings = EmbedderSettings.model_validate(
            {"architecture": f"local-dir:{folder}", "dtype": dtype, "threads": 1, "device_lanes": 1}
        )
        try:
            served = load_light(settings, folder)
        except StartupError as error:
            if dtype == "float32":
                raise Failure(str(error)) from error
            rows.append({"dtype": dtype, "refused": str(error)})
            continue
        if served.info.refused_dtype:
            cosine = served.info.refused_dtype_cosine
            rows.append({"dtype": dtype, "refused": f"below the bound: cosine {cosine:.6f}"})
            continue
        model = served.model
        features = probe_features(model)
        expected = features if expected is None else expected
        pixels = np.resize(probe_images(model.image_size), (_BATCH, model.image_size, model.image_size, 3))
        single = _cpu_ms(lambda: model.encode_images(pixels[:1]), seconds)  # noqa: B023  # called at once
        batch = _cpu_ms(lambda: model.encode_images(pixels), seconds)  # noqa: B023
        text = _cpu_ms(lambda: model.encode_texts([_TEXT]), seconds)  # noqa: B023
        rows.append(
            {
                "dtype": dtype,
                "cosine": served.info.dtype_cosine,
                "difference": float(np.abs(features - expected).max()),
                "image_ms": single,
                "batch_image_ms": batch / _BATCH,
                "text_ms": text,
            }
        )
    return rows


def found_models(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Return name, facts and path of the models that come along, and of those in `folders`."""
    places = [SHIPPED, *folders]
    inside = [
        path
        for place in places
        for path in (place, *sorted(place.iterdir()))
        if is_model_folder(path) or is_published(path)
    ]
    rows: list[dict[str, Any]] = []
    for path in dict.fromkeys(inside):
        try:
            name, image_size, dimension = _facts(path)
        except StartupError as error:
            rows.append({"folder": str(path), "refused": str(error)})
            continue
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        rows.append(
            {
                "name": name,
                "facts": f"{image_size} pixels, {dimension} dimensions, {size / 1e6:.1f} MB",
                "folder": str(path),
            }
        )
    return rows


def _facts(path: Path) -> tuple[str, int, int]:
    """Return name, side of images and dimension of a folder, from its documents: towers may be large."""
    if is_model_folder(path):
        document = read_document(path)
        return f"{document.architecture}/{document.pretrained}", document.image_size, document.dimension
    return f"{path.name}/onnx", *published_sizes(path)


def _cpu_ms(run: Callable[[], object], seconds: float) -> float:
    """Return the median CPU milliseconds of a call."""
    run()
    times: list[float] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends or not times:
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return statistics.median(times) * 1000
