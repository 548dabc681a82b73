"""Families of models as people take them today: published architectures, seeded weights, their own folders.

Sizes forbid the real depth, so towers have few layers; every other part is the published one. Nothing is
downloaded: a tag's file, a repository of the Hub and a tokenizer's files lie where a download would have put
them.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import pytest
import timm.models._registry as timm_registry
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers import models as tokenizer_models
from tokenizers import trainers as tokenizer_trainers
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig

Features = npt.NDArray[np.float32]

REPOSITORY = "ORG/Model"
LAYERS = 2
_VOCABULARY = 400
_CORPUS = [
    "a photo of a red dress", "is shorter and has long sleeves", "the same shirt in blue without a collar",
    "ein rotes kleid mit langen ärmeln", "una camisa más clara", "une robe à fleurs d'été", "красное платье",
] * 8  # fmt: skip


@dataclass(frozen=True, slots=True)
class Family:
    """One published model. `depth` is what timm calls the number of layers of its image tower.

    `bare` lists the options that a bare checkpoint file of it needs; None where it needs none.
    """

    architecture: str
    tag: str
    depth: dict[str, Any] | None = None
    bare: dict[str, Any] | None = None
    tower: str = ""
    """Folder name of a text tower of Hugging Face."""

    @property
    def name(self) -> str:
        """Name for people and for tests."""
        return f"{self.architecture}/{self.tag}"


FAMILIES = (
    Family("RN50", "openai"),
    Family("ViT-B-32", "openai", bare={"quick_gelu": True}),
    Family("ViT-B-32", "laion2b_s34b_b79k", bare={"quick_gelu": False}),
    Family("ViT-B-32-quickgelu", "metaclip_400m"),
    Family("ViT-B-16-SigLIP", "webli", {"depth": LAYERS}),
    Family("ViT-B-32-SigLIP2-256", "webli", {"depth": LAYERS}),
    Family("MobileCLIP2-S0", "dfndr2b"),
    Family("PE-Core-T-16-384", "meta", {"depth": LAYERS}),
    Family("xlm-roberta-base-ViT-B-32", "laion5b_s13b_b90k", tower="xlm-roberta-base"),
    Family("EVA02-B-16", "merged2b_s8b_b131k", {"depth": LAYERS}),
    Family("convnext_base_w", "laion2b_s13b_b82k", {"depths": (1, 1, 2, 1)}),
)


class Published:
    """A family in the places where it can be had, and open_clip's own model of it."""

    def __init__(self, family: Family, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.family, self.folder, self.cache = family, root / "published", root / "cache"
        self.config = self._shallow(patch)
        self.published = dict(open_clip.get_pretrained_cfg(family.architecture, family.tag))
        assert self.published
        self.folder.mkdir(parents=True)
        if family.tower:
            self._save_tower(root / family.tower)
            patch.chdir(root)  # where transformers finds it by its name
        name = self.config["text_cfg"].get("hf_tokenizer_name", "")
        if name:
            self._save_tokenizer(self.folder)
            if family.tower:
                shutil.copytree(self.folder, root / family.tower, dirs_exist_ok=True)
            # To the Hub's cache under the name by which the architecture asks for it.
            cached(self.cache, name, self.folder)
        self.quick_gelu = bool(self.published.get("quick_gelu") or self.config.get("quick_gelu"))
        torch.manual_seed(11)
        module = open_clip.create_model(family.architecture, pretrained_text=False, load_weights=False)
        with torch.no_grad():
            for parameter in module.parameters():
                # Some are zero at first, and would hide what they belong to.
                if parameter.ndim:
                    parameter.add_(torch.randn(parameter.shape) * 0.02)
        self.file = self.folder / "open_clip_model.safetensors"
        save_file(
            {name: tensor.contiguous().clone() for name, tensor in module.state_dict().items()}, self.file
        )
        document = {
            "model_cfg": copy.deepcopy(self.config) | {"quick_gelu": self.quick_gelu},
            "preprocess_cfg": {
                key: self.published[key] for key in ("mean", "std", "interpolation", "resize_mode")
            },
        }
        (self.folder / "open_clip_config.json").write_text(json.dumps(document))
        cached(self.cache, REPOSITORY, self.folder)
        self.bare = root / "bare" / "weights.safetensors"
        self.bare.parent.mkdir()
        shutil.copy(self.file, self.bare)
        patch.setattr(open_clip, "download_pretrained", lambda *_, **__: str(self.bare))
        patch.setattr(open_clip.factory, "download_pretrained", lambda *_, **__: str(self.bare))

    def _shallow(self, patch: pytest.MonkeyPatch) -> dict[str, Any]:
        """Make the architecture shallow, for open_clip and for everybody who asks it."""
        family = self.family
        config = open_clip.get_model_config(family.architecture)
        vision, text = config["vision_cfg"], config["text_cfg"]
        if "hf_model_name" not in text:
            text["layers"] = LAYERS
            if "hf_tokenizer_name" in text:
                text["vocab_size"] = 2 * _VOCABULARY
        if isinstance(vision.get("layers"), int):
            vision["layers"] = LAYERS
        if family.depth is not None:
            name = vision["timm_model_name"]
            make = timm_registry._model_entrypoints[name]
            patch.setitem(timm_registry._model_entrypoints, name, partial(make, **family.depth))
        patch.setitem(open_clip.factory._MODEL_CONFIGS, family.architecture, config)
        return copy.deepcopy(config)

    def _save_tower(self, folder: Path) -> None:
        config = XLMRobertaConfig(
            vocab_size=2 * _VOCABULARY,
            hidden_size=64,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            intermediate_size=128,
            max_position_embeddings=514,
            pad_token_id=1,
        )
        config.save_pretrained(folder)

    def _save_tokenizer(self, folder: Path) -> None:
        """Train a small vocabulary that pads as the family does: SigLIP with its end token, XLM-R with its "
        "own."""
        tokenizer = Tokenizer(tokenizer_models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        special = ["<s>", "<pad>", "</s>", "<unk>"] if self.family.tower else ["<pad>", "</s>", "<unk>"]
        trainer = tokenizer_trainers.UnigramTrainer(
            vocab_size=_VOCABULARY, special_tokens=special, unk_token="<unk>", show_progress=False
        )
        tokenizer.train_from_iterator(_CORPUS, trainer)
        marks = [(token, tokenizer.token_to_id(token)) for token in special]
        single = "<s> $A </s>" if self.family.tower else "$A </s>"
        tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=marks)
        is_siglip = not self.family.tower
        make: Any = PreTrainedTokenizerFast
        make(
            tokenizer_object=tokenizer,
            pad_token="</s>" if is_siglip and "SigLIP2" not in self.family.architecture else "<pad>",
            eos_token="</s>",
            unk_token="<unk>",
        ).save_pretrained(folder)

    @cached_property
    def reference(self) -> Reference:
        """Open_clip's own model, transform and tokenizer, by the tag."""
        family = self.family
        model, _, transform = open_clip.create_model_and_transforms(
            family.architecture,
            pretrained=family.tag,
            force_quick_gelu=self.quick_gelu,
            cache_dir=str(self.cache),
        )
        tokenizer = open_clip.get_tokenizer(family.architecture, cache_dir=str(self.cache))
        return Reference(model.eval(), transform, tokenizer)


@dataclass(frozen=True, slots=True)
class Reference:
    """What open_clip itself does with a model."""

    model: Any
    transform: Any
    tokenizer: Any

    def pixels(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Normalised pixels, float32 (n, 3, size, size)."""
        return torch.stack([self.transform(image) for image in images])

    def images(self, images: Sequence[Image.Image]) -> Features:
        """Raw features of images."""
        with torch.inference_mode():
            features: Features = self.model.encode_image(self.pixels(images)).numpy()
        return features

    def texts(self, texts: Sequence[str]) -> Features:
        """Raw features of texts."""
        with torch.inference_mode():
            features: Features = self.model.encode_text(self.tokenizer(list(texts))).numpy()
        return features


def cached(cache: Path, repository: str, folder: Path) -> None:
    """Put a folder where a download of a repository of the Hub would have put it."""
    place = cache / f"models--{repository.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / "1234", dirs_exist_ok=True)
    # A download remembers what a repository does not have.
    (place / ".no_exist" / "1234").mkdir(parents=True, exist_ok=True)
    (place / ".no_exist" / "1234" / "config.json").touch()
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / "main").write_text("1234")
