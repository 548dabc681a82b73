"""The training of the small CLIP, from top to bottom.

    python -m scripts.small_clip.train --work FOLDER [--photos ../shared/data/clothing]

Each step draws its images and texts from a generator seeded with the step, so that a run that was
interrupted resumes at its last checkpoint. In addition to the contrast of images and texts, heads that read
the attributes from the image features help early on; they are not part of the model.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip import SimpleTokenizer
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, normalize

from cir.images.decode import Decoder
from embedder_service.images.preprocess import Preprocessor
from embedder_service.model.clip import encode_tokens
from embedder_service.model.weights import load_model
from scripts.small_clip.augment import augmented
from scripts.small_clip.loss import contrastive_loss
from scripts.small_clip.measure import labelled, named
from scripts.small_clip.photos import Photo, read_photos
from scripts.small_clip.samples import Drawn, draw
from scripts.small_clip.texts import photo_text, text_of
from scripts.small_clip.trunk import TOWER
from scripts.small_clip.truth import NAMES, UNKNOWN, WORDS, Row, compared, numbered

ARCHITECTURE = "cir-small"
_PHOTO_REACH, _DRAWN_REACH = 0.45, 0.1
_HEADS_WEIGHT = 0.5
_KEEP = 0.998  # of the weights' moving average, each step


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for drawn samples and checkpoints")
    parser.add_argument("--photos", type=Path, help="folder of labelled clothing photos")
    parser.add_argument("--drawn", type=int, default=100_000, help="garments to draw")
    parser.add_argument("--held-out", type=int, default=600, help="garments to draw for measuring")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--photo-share", type=float, default=0.4, help="of each batch")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=250, help="steps between checkpoints and measurements")
    options = parser.parse_args(arguments)
    torch.manual_seed(options.seed)
    loaded = load_model(ARCHITECTURE, f"random:{options.seed}", config_file=TOWER)
    preprocessor = Preprocessor(size=loaded.config["vision_cfg"]["image_size"])
    drawn = draw(
        options.work / "train",
        options.drawn,
        preprocessor,
        seed=options.seed,
        split="train",
        full_size=False,
        processes=2,
    )
    held_out = draw(
        options.work / "val",
        options.held_out,
        preprocessor,
        seed=options.seed,
        split="val",
        full_size=True,
        processes=2,
    )
    photos, kept_out = (
        []
        if options.photos is None
        else list(read_photos(options.photos, preprocessor, Decoder(), kept_out=kept))
        for kept in (False, True)
    )
    print(f"{len(drawn.pixels)} drawn, {len(photos)} photos, {len(kept_out)} photos kept out", flush=True)
    module: Any = loaded.module.requires_grad_(True).train().to(memory_format=torch.channels_last)
    run = Run(module, Heads(), options, drawn, photos, loaded.mean, loaded.std)
    checkpoint = options.work / "checkpoint.pt"
    if checkpoint.exists():
        run.restore(checkpoint)
    began, first = time.monotonic(), run.step
    while run.step < options.steps:
        loss = run.advance()
        if run.step % 25 == 0:
            rate = (run.step - first) * options.batch / (time.monotonic() - began)
            print(f"step {run.step} loss {loss:.3f} {rate:.0f} images/s", flush=True)
        if run.step % options.every == 0 or run.step == options.steps:
            print(json.dumps({"step": run.step} | run.measured(held_out, kept_out)), flush=True)
            run.save(checkpoint)
    save_file(run.half_precision(), options.work / f"{ARCHITECTURE}.safetensors")


class Heads(torch.nn.Module):
    """Reads each attribute from raw image features."""

    def __init__(self, dimension: int = 128) -> None:
        super().__init__()
        self.of = torch.nn.ModuleDict({name: torch.nn.Linear(dimension, len(WORDS[name])) for name in NAMES})

    def loss(self, features: torch.Tensor, attributes: torch.Tensor) -> torch.Tensor:
        """Cross entropy of the attributes that are known, summed over attributes."""
        losses = [
            cross_entropy(
                self.of[name](features), attributes[:, place], ignore_index=UNKNOWN, reduction="sum"
            )
            for place, name in enumerate(NAMES)
        ]
        return torch.stack(losses).sum() / len(features)


@dataclass(frozen=True, slots=True)
class _Batch:
    pixels: torch.Tensor
    reach: torch.Tensor
    texts: list[str]
    known: Row
    told: Row


class Run:
    """Everything that a checkpoint keeps."""

    def __init__(
        self,
        module: Any,
        heads: Heads,
        options: argparse.Namespace,
        drawn: Drawn,
        photos: list[Photo],
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        self._module, self._heads, self._options = module, heads, options
        self._drawn, self._photos = drawn, photos
        self._mean, self._std = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
        self._tokenizer = SimpleTokenizer(context_length=module.context_length)
        self.average: Any = copy.deepcopy(module).eval().requires_grad_(False)
        decayed = [p for p in module.parameters() if p.ndim >= 2]
        others = [p for p in module.parameters() if p.ndim < 2]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": 0.05},
                {"params": [*others, *heads.parameters()], "weight_decay": 0.0},
            ],
            lr=options.rate,
            betas=(0.9, 0.98),
        )
        self.step = 0

    def advance(self) -> float:
        """Run one step and return the loss.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        options = self._options
        rng = np.random.default_rng((options.seed, self.step))
        batch = self._draw(rng)
        warm = min(1.0, (self.step + 1) / 100)
        for group in self._optimizer.param_groups:
            group["lr"] = options.rate * warm * 0.5 * (1 + math.cos(math.pi * self.step / options.steps))
        values = augmented(batch.pixels, batch.reach, rng).sub(self._mean).div(self._std)
        images = self._module.encode_image(values.contiguous(memory_format=torch.channels_last))
        texts = encode_tokens(self._module, self._tokenizer(batch.texts))
        true, false = (torch.from_numpy(each) for each in compared(batch.known, batch.told))
        loss = contrastive_loss(
            normalize(images, dim=-1),
            normalize(texts, dim=-1),
            self._module.logit_scale.exp().clamp(max=100),
            true,
            false,
        )
        loss = loss + _HEADS_WEIGHT * self._heads.loss(images, torch.from_numpy(batch.known))
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss of step {self.step} is {loss.item()}; try a lower --rate")
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._module.parameters(), 1.0)
        self._optimizer.step()
        self.step += 1
        keep = min(_KEEP, self.step / (self.step + 10))
        with torch.no_grad():
            for kept, new in zip(
                self.average.state_dict().values(), self._module.state_dict().values(), strict=True
            ):
                if kept.is_floating_point():
                    kept.lerp_(new, 1 - keep)
                else:
                    kept.copy_(new)
        return float(loss.detach())

    def measured(self, held_out: Drawn, kept_out: list[Photo]) -> dict[str, float]:
        """Return the measures of the averaged weights on garments and photos that were kept out."""
        shares = named(self._embedded(held_out.pixels), held_out.attributes, self._embedded_texts)
        if kept_out:
            photos = self._embedded(np.stack([photo.pixels for photo in kept_out]))
            shares["photos"] = labelled(photos, [photo.kind for photo in kept_out], self._embedded_texts)
        return {name: round(share, 4) for name, share in shares.items()}

    def half_precision(self) -> dict[str, torch.Tensor]:
        """Return the averaged weights, float16 but for counters."""
        return {
            name: (value.half() if value.is_floating_point() else value).contiguous()
            for name, value in self.average.state_dict().items()
        }

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        parts = path.with_suffix(".partial")
        torch.save(
            {name: part.state_dict() for name, part in self._parts().items()} | {"step": self.step}, parts
        )
        parts.replace(path)

    def restore(self, path: Path) -> None:
        """Resume from a checkpoint."""
        held = torch.load(path, weights_only=True)
        for name, part in self._parts().items():
            part.load_state_dict(held[name])
        self.step = held["step"]

    def _parts(self) -> dict[str, Any]:
        return {
            "module": self._module,
            "average": self.average,
            "heads": self._heads,
            "optimizer": self._optimizer,
        }

    def _draw(self, rng: np.random.Generator) -> _Batch:
        words = random.Random(int(rng.integers(2**63)))  # texts, not secrets
        of_photos = round(self._options.batch * self._options.photo_share) if self._photos else 0
        places = np.sort(rng.integers(len(self._drawn.pixels), size=self._options.batch - of_photos))
        photos = [self._photos[place] for place in rng.integers(len(self._photos) or 1, size=of_photos)]
        known: list[dict[str, str]] = [dict(self._drawn.attributes[place]) for place in places]
        said = [text_of(self._drawn.captions[place], known[i], words) for i, place in enumerate(places)]
        known += [
            {"kind": photo.kind} | ({"colour": photo.colour} if photo.colour else {}) for photo in photos
        ]
        said += [photo_text(photo.kind, photo.colour, words) for photo in photos]
        pixels = np.concatenate([self._drawn.pixels[places], *(photo.pixels[None] for photo in photos)])
        reach = np.array([_DRAWN_REACH] * len(places) + [_PHOTO_REACH] * of_photos, np.float32)
        return _Batch(
            torch.from_numpy(pixels),
            torch.from_numpy(reach),
            [text for text, _ in said],
            np.stack([numbered(each) for each in known]),
            np.stack([numbered(told) for _, told in said]),
        )

    def _embedded(self, pixels: Any) -> Any:
        with torch.inference_mode():
            return np.concatenate(
                [
                    self.average.encode_image(
                        torch.from_numpy(np.array(pixels[start : start + 64]))
                        .permute(0, 3, 1, 2)
                        .float()
                        .div(255)
                        .sub(self._mean)
                        .div(self._std)
                    ).numpy()
                    for start in range(0, len(pixels), 64)
                ]
            )

    def _embedded_texts(self, texts: Sequence[str]) -> Any:
        with torch.inference_mode():
            return encode_tokens(self.average, self._tokenizer(list(texts))).numpy()


if __name__ == "__main__":
    main()
