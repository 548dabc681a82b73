"""A CLIP model of open_clip with its weights filled in, and everything that its features depend on."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict

from cir.extras import install
from embedder_service.model.checkpoint import Checkpoint, State, describe_state, one_line, read_checkpoint
from embedder_service.model.description import (
    agreed_traits,
    flags,
)
from embedder_service.model.sources import RandomWeights, Source, Tag, find_source
from embedder_service.model.trunk import join_trunk
from embedder_service.traits import Choices, Traits, read_traits
from service_runtime.errors import StartupError

_OPENAI = "openai"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A float32 open_clip model in evaluation mode on the CPU, and what its weights were trained with.

    `config` is the effective architecture; with the weights and the traits it is the model's identity.
    `folder` is where files are that the config names, such as those of a tokenizer.
    """

    module: torch.nn.Module
    config: dict[str, Any]
    architecture: str
    pretrained: str
    traits: Traits
    folder: Path | None = None

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of the pixels, from 0 to 1, in training: red, green, blue."""
        return self.traits.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of the pixels in training: red, green, blue."""
        return self.traits.std


def load_model(
    architecture: str,
    pretrained: str,
    *,
    config_file: Path | None = None,
    cache_dir: Path | None = None,
    choices: Choices = Choices(),
) -> LoadedModel:
    """Find a model (see `find_source`), build its architecture and fill in the weights.

    `choices` are stated by the operator and go before everything that is found.

    Raises:
        StartupError: the model cannot be loaded, or nothing says what it was trained with; the message is one
        line.
    """
    source = find_source(architecture, pretrained, config_file=config_file, cache_dir=cache_dir)
    config = source.config
    checkpoint = read_checkpoint(source.weights) if isinstance(source.weights, Path) else None
    traits = _traits(source, checkpoint, choices)
    config["quick_gelu"] = traits.quick_gelu
    module = _build(
        config, source.weights.seed if isinstance(source.weights, RandomWeights) else 0, source.folder
    )
    if checkpoint is not None:
        _fill(module, checkpoint)
    elif isinstance(source.weights, Tag):
        _fill_from_tag(module, architecture, source.weights, traits, cache_dir)
    return LoadedModel(module, config, source.architecture, source.pretrained, traits, source.folder)


def _traits(source: Source, checkpoint: Checkpoint | None, choices: Choices) -> Traits:
    """Return what the weights were trained with: as stated, as published, or as all published weights
    agree."""
    document, config = source.document, source.config
    if isinstance(source.weights, Tag):
        quick_gelu = config.get("quick_gelu", False) or source.weights.config.get("quick_gelu", False)
        return choices.over(read_traits(source.weights.config, quick_gelu))
    if document is not None and document.preprocess is not None:
        stated = document.traits()
    elif checkpoint is None:
        stated = _random_traits(source)
    elif checkpoint.is_openai:
        stated = next(
            (traits for tag, traits in source.published.items() if tag.endswith(_OPENAI)),
            read_traits({}, True),
        )
    else:
        if document is not None and "quick_gelu" in config and choices.quick_gelu is None:
            choices = replace(choices, quick_gelu=bool(config["quick_gelu"]))
        return agreed_traits(source.published, choices, config, of_what=f"checkpoint {checkpoint.path}")
    if checkpoint is not None and checkpoint.is_openai and "quick_gelu" not in config:
        stated = replace(stated, quick_gelu=True)
    return choices.over(stated)


def _random_traits(source: Source) -> Traits:
    """Return the pixels that all published weights share, and the activation of the architecture itself."""
    quick_gelu = bool(source.config.get("quick_gelu", False))
    published = {replace(traits, quick_gelu=quick_gelu) for traits in source.published.values()}
    return published.pop() if len(published) == 1 else read_traits({}, quick_gelu)


def _build(config: Mapping[str, Any], seed: int, folder: Path | None) -> torch.nn.Module:
    parts = copy.deepcopy(dict(config))
    text, vision = parts["text_cfg"], parts["vision_cfg"]
    trunk = vision.pop("trunk", None)
    if "multimodal_cfg" in parts:
        raise StartupError("captioning models (multimodal_cfg) are not served; use a CLIP architecture")
    is_custom = parts.pop("custom_text", False) or bool(text.get("hf_model_name"))
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False  # all weights come from the checkpoint
    if text.get("hf_model_name"):
        text |= {"hf_model_pretrained": False, "hf_model_name": local_name(text["hf_model_name"], folder)}
    kind = open_clip.CustomTextCLIP if is_custom else open_clip.CLIP
    try:
        with torch.random.fork_rng(devices=[]), quiet_open_clip():
            torch.manual_seed(seed)
            module: torch.nn.Module = kind(**parts)
            if trunk is not None:
                visual: Any = module.visual
                module.visual = join_trunk(visual, parts["embed_dim"], trunk)
    except Exception as error:
        # Towers of timm and of transformers raise errors of their own.
        raise StartupError(f"the architecture cannot be built: {one_line(error)}{_remedy(text)}") from error
    module.eval()
    return module.requires_grad_(False)


def local_name(name: str, folder: Path | None) -> str:
    """Return the path of a folder that a config names relative to its own, else the name as it is."""
    if folder is not None and (folder / name).is_dir():
        return str(folder / name)
    return name


def _remedy(text: Mapping[str, Any]) -> str:
    if not text.get("hf_model_name"):
        return ""
    if find_spec("transformers") is None:
        return f"; {install('multilingual')}"
    name = text["hf_model_name"]
    return f"; its text tower is {name!r} of the Hub, or a folder of that name with its config.json"


def _fill_from_tag(
    module: torch.nn.Module, architecture: str, tag: Tag, traits: Traits, cache_dir: Path | None
) -> None:
    try:
        with quiet_open_clip():
            path = open_clip.download_pretrained(
                dict(tag.config), cache_dir=None if cache_dir is None else str(cache_dir)
            )
            if not path:
                raise OSError("open_clip knows no place to get them from")
            open_clip.load_checkpoint(module, path, strict=True, weights_only=True)
    except Exception as error:
        # Downloading goes through several libraries that share no base class of errors.
        place = tag.config.get("hf_hub") or tag.config.get("url") or ""
        raise StartupError(
            f"weights {tag.name!r} of {architecture} cannot be had: {one_line(error)}; download them on a "
            "machine with "
            f"access{f' ({place})' if place else ''} and start with --pretrained FILE {flags(traits)}"
        ) from error


def _fill(module: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """Copy the weights into the module.

    Raises:
        StartupError: they are not those of this architecture; the message says what was found.
    """
    state = _in_layout_of(module, checkpoint)
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    unexpected = sorted(state.keys() - wanted.keys())
    shapes = sorted(key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape)
    faults = [
        f"{len(keys)} {what} (first: {keys[0]})"
        for what, keys in (("missing", missing), ("unexpected", unexpected))
        if keys
    ]
    if shapes:
        first = shapes[0]
        sizes = f"{first}: {tuple(state[first].shape)} instead of {tuple(wanted[first].shape)}"
        faults.append(f"{len(shapes)} of another shape (first: {sizes})")
    if faults:
        raise StartupError(
            f"checkpoint {checkpoint.path} does not fit the architecture: weights {', '.join(faults)}; found "
            f"{describe_state(checkpoint.state)}; give the architecture that they were trained with"
        )
    module.load_state_dict(state, strict=True)


def _in_layout_of(module: torch.nn.Module, checkpoint: Checkpoint) -> State:
    """Return the weights as the module names them, where only their layout differs."""
    state = dict(checkpoint.state)
    wanted = module.state_dict()
    try:
        state = dict(convert_state_dict(module, state))
    except Exception as error:
        # Apple's own files are converted for the towers that they were made for, and fail in many ways with
        # others.
        raise StartupError(
            f"checkpoint {checkpoint.path} has the names of Apple's MobileCLIP and does not fit the "
            "architecture: "
            f"{one_line(error)}"
        ) from error
    if "text.positional_embedding" in wanted and "positional_embedding" in state:
        state = convert_to_custom_text_state_dict(state)
    for scalar in ("logit_scale", "logit_bias"):
        # No feature depends on them. They are saved with shape () or (1,), or not at all.
        if scalar not in wanted:
            state.pop(scalar, None)
        elif scalar not in state or state[scalar].numel() != wanted[scalar].numel():
            state[scalar] = wanted[scalar]
        else:
            state[scalar] = state[scalar].reshape(wanted[scalar].shape)
    # A buffer that transformers saved in former versions.
    return {key: value for key, value in state.items() if key in wanted or not key.endswith(".position_ids")}


@contextmanager
def quiet_open_clip() -> Iterator[None]:
    """Keep open_clip from logging on the root logger, which would also set up handlers there."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
