"""Sources of a CLIP model: an open_clip architecture, and its weights.

Weights are read with safetensors or with `weights_only=True`: nothing is ever unpickled.
"""

from __future__ import annotations

import copy
import json
import logging
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import convert_to_custom_text_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from service_runtime.errors import StartupError

# Architectures of this project, and the weights that ship with them.
_PACKAGE = Path(__file__).parents[1]
open_clip.add_model_config(_PACKAGE / "architectures")
SHIPPED = "shipped"

_OPENAI_EXTRA_KEYS = frozenset({"input_resolution", "context_length", "vocab_size"})
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A float32 open_clip model in evaluation mode on the CPU, with its architecture and normalisation."""

    module: torch.nn.Module
    config: dict[str, Any]
    """The effective architecture; with the weights it is the model's identity."""
    architecture: str
    pretrained: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load_model(
    architecture: str, pretrained: str, *, config_file: Path | None = None, cache_dir: Path | None = None
) -> LoadedModel:
    """Build the architecture and fill in the weights.

    `pretrained` is an open_clip tag, the path of a checkpoint (open_clip's or OpenAI's state-dict layout,
    `{epoch, CLIP}` of a fine-tuned CLIP4Cir model included), "shipped" for the weights that ship with an
    architecture of this project, or "random" or "random:SEED". `config_file` is a JSON file in open_clip's
    layout that replaces a built-in architecture.

    Raises:
        StartupError: the model cannot be loaded; the message is one line.
    """
    config, preprocess = _read_config(architecture, config_file)
    config["quick_gelu"] = bool(config.get("quick_gelu", False))
    random_seed = _random_seed(pretrained)
    if random_seed is not None:
        module = _build(config, random_seed)
        name = f"random:{random_seed}"
    elif (tag := _tag(architecture, pretrained, config_file)) is not None:
        # The activation is a property of the weights: OpenAI's were trained with QuickGELU.
        config["quick_gelu"] = bool(tag.get("quick_gelu", False))
        preprocess |= tag
        module = _build(config, 0)
        _fill_from_tag(module, architecture, pretrained, tag, cache_dir)
        name = pretrained
    else:
        path = _shipped(architecture) if pretrained == SHIPPED else Path(pretrained)
        state, is_openai = _read_checkpoint(path, architecture)
        if is_openai:
            config["quick_gelu"] = True
        module = _build(config, 0)
        _fill(module, state, path)
        name = pretrained if pretrained == SHIPPED else path.name
    mean, std = (tuple(float(v) for v in preprocess.get(key, default)) for key, default in _NORMALISATION)
    return LoadedModel(module, config, architecture, name, mean, std)


_NORMALISATION = (("mean", _MEAN), ("std", _STD))


def _read_config(architecture: str, config_file: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the architecture, and its preprocessing (mean, std) where it states one."""
    if config_file is None:
        config = open_clip.get_model_config(architecture.replace("/", "-"))
        if config is None:
            raise StartupError(
                f"architecture {architecture!r} is not known to open_clip; give one of its names, such as "
                "ViT-B-32 or RN50x4, or a JSON file with --model-config-file"
            )
        return copy.deepcopy(config), {}
    try:
        document = json.loads(config_file.read_text(encoding="utf-8"))
        config = document.get("model_cfg", document)
        preprocess = document.get("preprocess_cfg", {})
        if not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
            raise ValueError("it needs embed_dim, vision_cfg and text_cfg")
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise StartupError(f"model config file {config_file} cannot be used: {error}") from error
    return config, preprocess


def _random_seed(pretrained: str) -> int | None:
    name, _, seed = pretrained.partition(":")
    if name != "random":
        return None
    try:
        return int(seed or "0")
    except ValueError as error:
        raise StartupError(
            f"pretrained {pretrained!r}: the seed must be a number, such as random:1"
        ) from error


def _tag(architecture: str, pretrained: str, config_file: Path | None) -> dict[str, Any] | None:
    if config_file is not None:
        return None
    return dict(open_clip.get_pretrained_cfg(architecture.replace("/", "-"), pretrained)) or None


def _shipped(architecture: str) -> Path:
    path = _PACKAGE / "shipped" / f"{architecture}.safetensors"
    if not path.is_file():
        held = ", ".join(sorted(file.stem for file in path.parent.glob("*.safetensors"))) or "none"
        raise StartupError(
            f"no weights of {architecture!r} are shipped (there are: {held}); give an open_clip tag or the "
            "path of a checkpoint as --pretrained"
        )
    return path


def _build(config: Mapping[str, Any], seed: int) -> torch.nn.Module:
    parts = copy.deepcopy(dict(config))
    is_custom = parts.pop("custom_text", False) or "hf_model_name" in parts["text_cfg"]
    if "multimodal_cfg" in parts:
        raise StartupError("captioning models (multimodal_cfg) are not served; use a CLIP architecture")
    kind = open_clip.CustomTextCLIP if is_custom else open_clip.CLIP
    try:
        with torch.random.fork_rng(devices=[]), _quiet_open_clip():
            torch.manual_seed(seed)
            module: torch.nn.Module = kind(**parts)
    except (TypeError, ValueError, RuntimeError, AssertionError, ImportError, OSError, KeyError) as error:
        raise StartupError(f"the architecture cannot be built: {_one_line(error)}") from error
    module.eval()
    return module.requires_grad_(False)


def _fill_from_tag(
    module: torch.nn.Module, architecture: str, pretrained: str, tag: dict[str, Any], cache_dir: Path | None
) -> None:
    try:
        with _quiet_open_clip():
            path = open_clip.download_pretrained(tag, cache_dir=None if cache_dir is None else str(cache_dir))
            if not path:
                raise OSError("open_clip knows no place to get them from")
            open_clip.load_checkpoint(module, path, strict=True, weights_only=True)
    except Exception as error:
        # Downloading goes through several libraries that share no base class of errors.
        raise StartupError(
            f"weights {pretrained!r} of {architecture} cannot be had: {_one_line(error)}; "
            "download them on a machine with access and give the file's path as --pretrained"
        ) from error


def _read_checkpoint(path: Path, architecture: str) -> tuple[dict[str, torch.Tensor], bool]:
    """Return the state dict, and True when it comes from OpenAI's CLIP code."""
    if not path.is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture.replace("/", "-"))) or "none"
        raise StartupError(
            f"pretrained {str(path)!r} is neither a file, nor a tag of {architecture} (tags: {tags}), "
            "nor random[:SEED]"
        )
    if _is_torchscript(path):
        # OpenAI's own files are such archives. They contain code, which only torch.jit.load would read.
        raise StartupError(
            f"checkpoint {path} is a TorchScript archive, which holds code and is not opened; where you "
            "trust it, write its weights alone: python -c \"import torch; torch.save(torch.jit.load('"
            f"{path.name}', map_location='cpu').state_dict(), 'weights.pt')\""
        )
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise StartupError(f"checkpoint {path} is not a safetensors file: {_one_line(error)}") from error
    except Exception as error:
        # torch raises many kinds of errors here: EOFError, KeyError, UnpicklingError, RuntimeError, ...
        raise StartupError(
            f"checkpoint {path} cannot be read as plain tensors ({type(error).__name__}); archives and "
            "pickled objects are refused: save the model's state dict, best as safetensors"
        ) from error
    is_openai = isinstance(content, dict) and "CLIP" in content
    for key in ("CLIP", "state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise StartupError(f"checkpoint {path} holds no state dict; expected tensors by name")
    state = {key.removeprefix("module."): value for key, value in content.items()}
    is_openai = is_openai or set(state) >= _OPENAI_EXTRA_KEYS
    return {key: value for key, value in state.items() if key not in _OPENAI_EXTRA_KEYS}, is_openai


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False
    return any(name.endswith("/constants.pkl") for name in names)


def _fill(module: torch.nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    wanted = module.state_dict()
    if "text.positional_embedding" in wanted and "positional_embedding" in state:
        state = convert_to_custom_text_state_dict(state)
    for scalar in ("logit_scale", "logit_bias"):
        # Saved with shape () or (1,), depending on the version; no feature depends on it.
        if scalar in wanted and scalar in state and wanted[scalar].numel() == state[scalar].numel():
            state[scalar] = state[scalar].reshape(wanted[scalar].shape)
    missing = sorted(wanted.keys() - state.keys())
    unexpected = sorted(state.keys() - wanted.keys())
    shapes = sorted(key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape)
    faults = [
        f"{len(keys)} {what} (first: {keys[0]})"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if keys
    ]
    if faults:
        raise StartupError(
            f"checkpoint {path} does not fit the architecture: weights {', '.join(faults)}; "
            "set the architecture that it was trained with"
        )
    module.load_state_dict(state, strict=True)


@contextmanager
def _quiet_open_clip() -> Iterator[None]:
    """Keep open_clip from logging on the root logger, which would also set up handlers there."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
