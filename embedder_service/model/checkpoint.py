"""Checkpoint files: read safely, and brought into open_clip's layout.

Weights are read with safetensors or with `weights_only=True`: nothing is ever unpickled.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from service_runtime.errors import StartupError

State = dict[str, torch.Tensor]

_OPENAI_EXTRA_KEYS = frozenset({"input_resolution", "context_length", "vocab_size"})
# Keys under which training code keeps the state dict; {epoch, CLIP} is that of CLIP4Cir.
_HOLDERS = ("CLIP", "state_dict", "model_state_dict", "model", "module", "ema_state_dict")
# Prefixes that DistributedDataParallel and training code put before every name.
_WRAPPERS = ("module.", "model.", "clip.", "clip_model.")
# torch.compile puts it wherever a part was compiled.
_COMPILED = "_orig_mod."
# torch names what it refuses to build.
_FOREIGN = re.compile(r"GLOBAL ([\w.]+)")
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
# As open_clip looks for them in a folder.
_PREFERRED = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth", "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights by open_clip's names. `is_openai`: the file shows that OpenAI's own code holds or made them."""

    path: Path
    state: State
    is_openai: bool


def find_in_folder(folder: Path) -> Path:
    """Return the checkpoint in a folder: the one of a usual name, else the only one.

    Raises:
        StartupError: there is none, or there are several and none has a usual name.
    """
    try:
        found = sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES and file.is_file())
    except OSError as error:
        raise StartupError(f"folder {folder} cannot be read: {error.strerror or error}") from error
    names = {file.name: file for file in found}
    for name in _PREFERRED:
        if name in names:
            return names[name]
    if len(found) == 1:
        return found[0]
    if not found:
        raise StartupError(
            f"folder {folder} holds no weights; expected a file such as {_PREFERRED[0]}, or one named by "
            "--pretrained"
        )
    some = ", ".join(file.name for file in found[:4])
    raise StartupError(
        f"folder {folder} holds several checkpoints ({some}); name one of them with --pretrained"
    )


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of any usual layout.

    Raises:
        StartupError: it is no file of plain tensors; the message says what it is.
    """
    content = _read(path)
    is_openai = isinstance(content, dict) and "CLIP" in content
    state = _state_in(content)
    if state is None:
        raise StartupError(
            f"checkpoint {path} holds no state dict; expected tensors by name, found {_what(content)}"
        )
    state = _unwrapped(state)
    is_openai = is_openai or state.keys() >= _OPENAI_EXTRA_KEYS
    state = {key: value for key, value in state.items() if key not in _OPENAI_EXTRA_KEYS}
    return Checkpoint(path, _from_hugging_face(state, path), is_openai)


def describe_state(state: Mapping[str, torch.Tensor]) -> str:
    """Return what the names in a state dict show, for a message: families, counts, sizes."""
    groups: dict[str, int] = {}
    for name in state:
        group = re.split(r"\.\d+\.", name, maxsplit=1)[0]
        group = ".".join(group.split(".")[:2])
        groups[group] = groups.get(group, 0) + 1
    shown = ", ".join(
        f"{name} ({count})" for name, count in sorted(groups.items(), key=lambda part: -part[1])[:6]
    )
    return f"{len(state)} tensors: {shown}{', ...' if len(groups) > 6 else ''}"


def _read(path: Path) -> object:
    if _is_torchscript(path):
        # OpenAI's own files are such archives. They contain code, which only torch.jit.load would read.
        raise StartupError(
            f"checkpoint {path} is a TorchScript archive, which holds code and is not opened; where you "
            "trust it, write its weights alone: python -c \"import torch; torch.save(torch.jit.load('"
            f"{path.name}', map_location='cpu').state_dict(), 'weights.pt')\""
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise StartupError(f"checkpoint {path} is not a safetensors file: {one_line(error)}") from error
    except Exception as error:
        # torch raises many kinds of errors here: EOFError, KeyError, UnpicklingError, RuntimeError, ...
        foreign = _FOREIGN.search(str(error))
        found = f"it holds an object of {foreign[1]}" if foreign else type(error).__name__
        raise StartupError(
            f"checkpoint {path} cannot be read as plain tensors ({found}); archives and "
            "pickled objects are refused: save the model's state dict, best as safetensors"
        ) from error


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False
    return any(name.endswith("/constants.pkl") for name in names)


def _state_in(content: object) -> State | None:
    """Return the tensors by name in what a file holds: itself, or what lies under a usual key of it."""
    if not isinstance(content, dict):
        return None
    tensors = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    if tensors and len(tensors) == len(content) and all(isinstance(key, str) for key in tensors):
        return tensors
    for key in _HOLDERS:
        if isinstance(content.get(key), dict) and (state := _state_in(content[key])) is not None:
            return state
    return None


def _unwrapped(state: State) -> State:
    """Return the state without what wrappers put into its names; they may lie in one another."""
    state = {name.replace(_COMPILED, ""): value for name, value in state.items()}
    while True:
        prefix = next((part for part in _WRAPPERS if all(name.startswith(part) for name in state)), None)
        if prefix is None or not state:
            return state
        state = {name.removeprefix(prefix): value for name, value in state.items()}


def _what(content: object) -> str:
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    if not content:
        return "nothing"
    parts = [f"{key!r} ({_kind(value)})" for key, value in list(content.items())[:6]]
    return ", ".join(parts) + (f" and {len(content) - 6} more" if len(content) > 6 else "")


def _kind(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return "tensor"
    return f"{len(value)} entries" if isinstance(value, (dict, list, tuple)) else type(value).__name__


# Names of Hugging Face's CLIPModel, and open_clip's for the same weights.
_HF_TOP = {
    "logit_scale": "logit_scale",
    "visual_projection.weight": "visual.proj",
    "text_projection.weight": "text_projection",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    # Its name has this spelling in Hugging Face's code.
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
}
_HF_TRANSPOSED = frozenset({"visual_projection.weight", "text_projection.weight"})
_HF_LAYER = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)")
_HF_PARTS = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_HF_ATTENTION = re.compile(r"self_attn\.([qkv])_proj\.(weight|bias)")


def _from_hugging_face(state: State, path: Path) -> State:
    """Return the state by open_clip's names where it has those of Hugging Face's CLIPModel.

    Raises:
        StartupError: it has such names, but not those of a CLIP.
    """
    if not any(name.startswith(("text_model.", "vision_model.")) for name in state):
        return state
    result: State = {}
    attention: dict[tuple[str, str], dict[str, torch.Tensor]] = {}
    strange = []
    for name, value in state.items():
        if name.endswith("position_ids"):
            continue
        if name in _HF_TOP:
            result[_HF_TOP[name]] = value.T.contiguous() if name in _HF_TRANSPOSED else value
            continue
        layer = _HF_LAYER.fullmatch(name)
        block = "" if layer is None else _block(layer[1], layer[2])
        part, _, kind = ("", "", "") if layer is None else layer[3].rpartition(".")
        if layer is not None and (projection := _HF_ATTENTION.fullmatch(layer[3])):
            attention.setdefault((block, projection[2]), {})[projection[1]] = value
        elif part in _HF_PARTS:
            result[f"{block}.{_HF_PARTS[part]}.{kind}"] = value
        else:
            strange.append(name)
    if strange or any(parts.keys() != {"q", "k", "v"} for parts in attention.values()):
        first = f"; the first that is not a CLIP's: {strange[0]}" if strange else ""
        raise StartupError(
            f"checkpoint {path} has Hugging Face's names, of another model than its CLIPModel "
            f"({describe_state(state)}{first}); use the weights that were published for open_clip"
        )
    for (block, kind), parts in attention.items():
        result[f"{block}.attn.in_proj_{kind}"] = torch.cat([parts[key] for key in "qkv"])
    return result


def _block(tower: str, number: str) -> str:
    return f"{'visual.' if tower == 'vision' else ''}transformer.resblocks.{number}"


# Characters of an error's text that are shown.
_LONGEST = 300


def one_line(error: BaseException) -> str:
    """Return the first line of an error's text, cut after a word where it is long; without one its class."""
    lines = str(error).strip().splitlines()
    line = lines[0] if lines else type(error).__name__
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST].rsplit(' ', 1)[0]} ..."
