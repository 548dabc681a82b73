"""From settings to the model that is served, by the runtime that suits it and this machine."""

from __future__ import annotations

from pathlib import Path

from cir.extras import install
from embedder_service.names import FOLDER, HUB
from embedder_service.served import ServedModel
from embedder_service.settings import EmbedderSettings
from service_runtime.errors import StartupError, not_installed
from service_runtime.gpu import may_use_gpu

#: Where the models of this project lie.
SHIPPED = Path(__file__).parent / "shipped"
# What folders of ONNX towers have: those of this project, and those of others.
_DOCUMENT = "cir_model.json"
_PUBLISHED = ("config.json", "visual", "textual")


def load_served(settings: EmbedderSettings) -> ServedModel:
    """Load a model by OpenVINO where it is a folder of ONNX towers and no GPU is asked for, else by torch.

    Raises:
        StartupError: the model cannot be loaded, or a part to run it is not installed; the message is one
            line.
    """
    if settings.model_config_file is None:
        _check_folder(settings.architecture)
    folder, unreachable = model_folder(settings), None
    if folder is None and _may_be_export(settings):
        folder, unreachable = _fetch(settings)
    if folder is not None and _is_light(settings, folder):
        try:
            # Imported here: neither runtime is loaded for the other's model.
            from embedder_service.light.model import load_light
        except ImportError as error:
            raise StartupError(not_installed([str(error.name)], "embedder")) from error
        return load_light(settings, folder)
    if settings.runtime == "openvino":
        raise unreachable or StartupError(
            f"{settings.architecture} is no folder of ONNX towers, which runtime openvino needs; make one "
            "with cir models export, and give it as --architecture"
        )
    try:
        from embedder_service.model.load import load
    except ImportError as error:
        raise unreachable or StartupError(
            f"{error.name} cannot be imported, which {settings.architecture} by name needs; "
            f"{install('torch')} (in containers: OVERLAYS=torch), or give a model folder (cir models export) "
            "as --architecture"
        ) from error
    return load(settings)


def _check_folder(architecture: str) -> None:
    """Refuse what is written as the path of a folder, and is none."""
    path = architecture.removeprefix(FOLDER)
    is_path = path != architecture or ("/" in path and path.startswith((".", "/", "~")))
    try:
        if not is_path or (path and Path(path).expanduser().is_dir()):
            return
    except (OSError, RuntimeError, ValueError):
        pass  # a path that no system has, or the home of nobody
    raise StartupError(
        f"there is no folder {path or 'without a name'}, which {architecture} names as the model"
    )


def model_folder(settings: EmbedderSettings) -> Path | None:
    """Return the folder of ONNX towers that the settings name; None where they name another model."""
    if settings.model_config_file is not None:
        return None
    shipped = SHIPPED / settings.architecture.replace("/", "-")
    if settings.pretrained in ("auto", "shipped") and (shipped / _DOCUMENT).is_file():
        return shipped
    path = Path(settings.architecture.removeprefix(FOLDER)).expanduser()
    has_towers = (path / _DOCUMENT).is_file() or all((path / name).exists() for name in _PUBLISHED)
    return path if settings.pretrained == "auto" and has_towers else None


def _may_be_export(settings: EmbedderSettings) -> bool:
    """Return true for a repository whose files decide by what it is run."""
    return (
        settings.architecture.startswith(HUB)
        and settings.pretrained == "auto"
        and settings.model_config_file is None
        and settings.runtime != "torch"
        and (settings.runtime == "openvino" or settings.device in ("auto", "cpu"))
    )


def _fetch(settings: EmbedderSettings) -> tuple[Path | None, StartupError | None]:
    """Return the folder of a repository that holds ONNX towers, or why it could not be looked into."""
    try:
        # Imported here: models that lie on this machine need no client of the Hub.
        from embedder_service.light.hub import fetch_folder
    except ImportError:
        return None, None
    try:
        return fetch_folder(settings.architecture.removeprefix(HUB), settings.weights_cache), None
    except StartupError as error:
        return None, error


def _is_light(settings: EmbedderSettings, folder: Path) -> bool:
    """Return true where the folder is run by OpenVINO.

    Raises:
        StartupError: it is to run by torch or on a GPU, and has no weights for torch.
    """
    has_torch_weights = folder.parent == SHIPPED and folder.with_suffix(".safetensors").is_file()
    if settings.runtime == "openvino":
        return True
    if settings.runtime == "torch" and not has_torch_weights:
        raise StartupError(
            f"{folder} holds ONNX towers, which runtime torch does not run; use runtime auto, or name the "
            "model that they were exported from"
        )
    if settings.runtime == "torch":
        return False
    if settings.device not in ("auto", "cpu"):
        if has_torch_weights:
            return False
        raise StartupError(
            f"model folder {folder} runs on CPUs, and device is {settings.device}; use device auto, or name "
            "the model that it was exported from"
        )
    return settings.device == "cpu" or not has_torch_weights or not may_use_gpu()
