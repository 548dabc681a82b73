"""Facts about a model that its weights were trained with: pixels, activation, and where they are stated.

Weights give right features for their own preprocessing alone, and with any other one silently wrong ones. So
nothing here is guessed: preprocessing comes from what the operator says, else from the document that lies
with the weights (`open_clip_config.json`), else from what open_clip publishes with a tag. For a checkpoint
file without such a document it is taken from the tags of its architecture where all of them agree; where they
differ the start is refused, with the choices named.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from embedder_service.traits import Choices, Traits, read_traits
from service_runtime.errors import StartupError

#: Name of the document that describes the weights in its folder, in open_clip's layout.
CONFIG_NAME = "open_clip_config.json"

# Parts of an architecture that no feature depends on once weights are loaded.
_WITHOUT_EFFECT = frozenset(
    {
        "timm_model_pretrained",
        "hf_model_pretrained",
        "hf_tokenizer_name",
        "tokenizer_kwargs",
        "tokenizer_mode",
    }
)


@dataclass(frozen=True, slots=True)
class Document:
    """A file in open_clip's layout: an architecture, and the preprocessing where it states one."""

    path: Path
    config: dict[str, Any]
    preprocess: Mapping[str, Any] | None

    def traits(self) -> Traits:
        """Return what is stated, with open_clip's defaults for what is not.

        Raises:
            StartupError: a value is not possible.
        """
        try:
            return read_traits(self.preprocess or {}, self.config.get("quick_gelu", False))
        except ValueError as error:
            raise StartupError(
                f"model config file {self.path} cannot be used: preprocess_cfg: {error}"
            ) from error


def read_document(path: Path) -> Document:
    """Read a file in open_clip's layout: {model_cfg, preprocess_cfg}, or an architecture alone.

    Raises:
        StartupError: there is no such file, or it is no such document.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        config = document.get("model_cfg", document)
        preprocess = document.get("preprocess_cfg")
        if not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
            raise ValueError("it needs embed_dim, vision_cfg and text_cfg")
        if not all(isinstance(part, dict) for part in (config["vision_cfg"], config["text_cfg"])):
            raise ValueError("vision_cfg and text_cfg must be objects")
        for key in ("hf_model_name", "hf_tokenizer_name"):
            if not isinstance(config["text_cfg"].get(key), str | None):
                raise ValueError(f"{key} of text_cfg is {config['text_cfg'][key]!r}; expected a name")
        if not isinstance(config["text_cfg"].get("tokenizer_kwargs"), dict | None):
            raise ValueError("tokenizer_kwargs of text_cfg must be an object")
        if preprocess is not None and not isinstance(preprocess, dict):
            raise ValueError("preprocess_cfg must be an object")
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise StartupError(f"model config file {path} cannot be used: {error}") from error
    return Document(path, config, preprocess)


def published_traits(architecture: str, config: Mapping[str, Any]) -> dict[str, Traits]:
    """Return the traits of every tag of an architecture that open_clip knows.

    An architecture that was trained with QuickGELU says so itself or in its tags.
    """
    quick_gelu = bool(config.get("quick_gelu", False))
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    configs = {tag: dict(open_clip.get_pretrained_cfg(architecture, tag)) for tag in tags}
    return {tag: read_traits(cfg, quick_gelu or cfg.get("quick_gelu", False)) for tag, cfg in configs.items()}


def published_for(config: Mapping[str, Any]) -> dict[str, Traits]:
    """Return the traits of every tag whose weights fit an architecture, under whatever names open_clip
    knows it."""
    wanted = comparable(config)
    names = [
        name for name in open_clip.list_models() if comparable(open_clip.get_model_config(name)) == wanted
    ]
    return {
        f"{name}/{tag}": traits
        for name in names
        for tag, traits in published_traits(name, open_clip.get_model_config(name)).items()
    }


def comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return an architecture with open_clip's defaults filled in and without what no feature depends on.

    Two architectures take the same weights where these are equal.
    """
    towers = {"vision_cfg": CLIPVisionCfg, "text_cfg": CLIPTextCfg}
    result: dict[str, Any] = {
        "embed_dim": config.get("embed_dim"),
        "custom_text": bool(config.get("custom_text")),
    }
    for name, kind in towers.items():
        known = {field.name: field.default for field in dataclasses.fields(kind)}
        given = dict(config.get(name) or {})
        result[name] = {
            key: _plain(value) for key, value in (known | given).items() if key not in _WITHOUT_EFFECT
        }
    return result


def _plain(value: object) -> object:
    return list(value) if isinstance(value, (list, tuple)) else value


def agreed_traits(
    published: Mapping[str, Traits], choices: Choices, config: Mapping[str, Any], *, of_what: str
) -> Traits:
    """Return the traits that all tags of an architecture share, with the operator's choices over them.

    An architecture that has no tags was published by nobody: open_clip's defaults hold, with which it is
    trained.

    Raises:
        StartupError: tags differ in a trait that is not chosen; the message names the choices.
    """
    if not published:
        return choices.over(read_traits({}, config.get("quick_gelu", False)))
    unsaid = [field.name for field in dataclasses.fields(Choices) if getattr(choices, field.name) is None]
    different = {name: _values(published, name) for name in unsaid}
    different = {name: values for name, values in different.items() if len(values) > 1}
    if different:
        options = "; ".join(_option(name, values) for name, values in different.items())
        raise StartupError(
            f"{of_what} does not say how it was trained, and the published weights of its architecture "
            "differ. Say "
            f"which it is: {options}; or put the {CONFIG_NAME} that was published with it into its folder"
        )
    return choices.over(next(iter(published.values())))


def _values(published: Mapping[str, Traits], name: str) -> dict[Any, list[str]]:
    values: dict[Any, list[str]] = {}
    for tag, traits in published.items():
        values.setdefault(getattr(traits, name), []).append(tag)
    return values


def _option(name: str, values: Mapping[Any, Sequence[str]]) -> str:
    flag = "--" + name.replace("_", "-")
    parts = [f"{flag} {flag_value(value)} (as {_some(tags)})" for value, tags in values.items()]
    return " or ".join(parts)


def flag_value(value: object) -> str:
    """Return a trait as an option of the command line takes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(f"{part:.8g}" for part in value) if isinstance(value, tuple) else str(value)


def _some(tags: Sequence[str]) -> str:
    return ", ".join(tags[:3]) + (f" and {len(tags) - 3} more" if len(tags) > 3 else "")


def flags(traits: Traits) -> str:
    """Return the options that state these traits, for a message that says how to start."""
    names = (field.name for field in dataclasses.fields(Choices))
    return " ".join(f"--{name.replace('_', '-')} {flag_value(getattr(traits, name))}" for name in names)
