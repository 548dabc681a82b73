"""From settings to the model that is served, by the runtime that suits it and this machine."""

from __future__ import annotations

from pathlib import Path

from embedder_service.served import ServedModel
from embedder_service.settings import EmbedderSettings
from service_runtime.errors import StartupError
from service_runtime.gpu import may_use_gpu

#: Where the models of this project lie.
SHIPPED = Path(__file__).parent / "shipped"
FOLDER = "local-dir:"
_DOCUMENT = "cir_model.json"


def load_served(settings: EmbedderSettings) -> ServedModel:
    """Load a model by OpenVINO where it is a model folder and no GPU is asked for, else by torch.

    Raises:
        StartupError: the model cannot be loaded, or a part to run it is not installed; the message is one
            line.
    """
    folder = model_folder(settings)
    if folder is not None and _is_light(settings, folder):
        try:
            # Imported here: neither runtime is loaded for the other's model.
            from embedder_service.light.model import load_light
        except ImportError as error:
            raise StartupError(f"{error.name} cannot be imported; install the extra [embedder]") from error
        return load_light(settings, folder)
    if settings.runtime == "openvino":
        raise StartupError(
            f"{settings.architecture} is no model folder, which runtime openvino needs; make one with "
            "cir models export, and give it as --architecture"
        )
    try:
        from embedder_service.model.load import load
    except ImportError as error:
        raise StartupError(
            f"{error.name} cannot be imported, which {settings.architecture} by name needs; install the "
            "extra [torch] (in containers: OVERLAYS=torch), or give a model folder (cir models export) as "
            "--architecture"
        ) from error
    return load(settings)


def model_folder(settings: EmbedderSettings) -> Path | None:
    """Return the model folder that the settings name, or None where they name another kind of model."""
    if settings.model_config_file is not None:
        return None
    shipped = SHIPPED / settings.architecture.replace("/", "-")
    if settings.pretrained in ("auto", "shipped") and (shipped / _DOCUMENT).is_file():
        return shipped
    path = Path(settings.architecture.removeprefix(FOLDER)).expanduser()
    if settings.pretrained != "auto" or not (path / _DOCUMENT).is_file():
        return None
    return path


def _is_light(settings: EmbedderSettings, folder: Path) -> bool:
    """Return true where the folder is run by OpenVINO.

    Raises:
        StartupError: it is to run on a GPU, and has no weights for torch.
    """
    if settings.runtime != "auto":
        return settings.runtime == "openvino"
    has_torch_weights = folder.parent == SHIPPED and folder.with_suffix(".safetensors").is_file()
    if settings.device not in ("auto", "cpu"):
        if has_torch_weights:
            return False
        raise StartupError(
            f"model folder {folder} runs on CPUs, and device is {settings.device}; use device auto, or name "
            "the model that it was exported from"
        )
    return settings.device == "cpu" or not has_torch_weights or not may_use_gpu()
