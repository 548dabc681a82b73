"""The last two steps of the small CLIP: towers of equal length, and other words for what it knows.

    python -m scripts.small_clip.finish TRAINED.safetensors OUT.safetensors

Both leave every cosine of an image with a text that it was trained on. The image tower's output is scaled to
the length of the text tower's: a Combiner mixes raw features, and where images are five times as long as
texts its lambda has to be 1. Of the text tower the embeddings of `SYNONYMS` alone are trained, so that a
sentence has with such a word the features that it has with the word for the kind.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from open_clip import SimpleTokenizer
from safetensors.torch import load_file, save_file
from torch.nn.functional import cosine_similarity

from embedder_service.model.clip import encode_tokens
from embedder_service.model.weights import load_model
from garments.vocabulary import COLOURS, PATTERNS, noun_phrase
from scripts.small_clip.trunk import TOWER

IMAGE_LENGTH, TEXT_LENGTH = 68.5, 13.0
"""Mean lengths of the trained towers, measured over 4,000 garments and 18,857 texts about them."""
_LAST_LAYER = ("visual.attnpool.c_proj.weight", "visual.attnpool.c_proj.bias")

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "trousers": ("jeans", "leggings"),
    "shoe": ("sneaker", "sneakers", "trainers", "boot", "boots", "sandals", "heels", "footwear"),
    "hat": ("cap", "beanie"),
    "hoodie": ("sweatshirt",),
    "long-sleeved shirt": ("sweater", "jumper", "pullover", "cardigan"),
    "bodysuit": ("romper", "onesie"),
    "dress": ("gown",),
}
"""Words of one token each that no text of the training has, by the kind that they are taken for."""
_PLURAL = ("jeans", "leggings", "sneakers", "trainers", "boots", "sandals", "heels", "footwear")
_TEMPLATES = (
    "{}",
    "a photo of {}",
    "a picture of {}",
    "this is {}",
    "make it {}",
    "{} instead",
    "change it to {}",
    "it should be {}",
    "the same, but {}",
    "I want {} like this",
)


def scale_images(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights with images as long as texts."""
    scale = TEXT_LENGTH / IMAGE_LENGTH
    return {
        name: (value.float() * scale).to(value.dtype) if name in _LAST_LAYER else value
        for name, value in weights.items()
    }


def teach(module: Any, *, steps: int = 400, batch: int = 64, seed: int = 1) -> list[float]:
    """Train the embeddings of `SYNONYMS` in place; return the loss of each step."""
    tokenizer = SimpleTokenizer(context_length=module.context_length)
    table = module.token_embedding.weight
    tokens = {word: _token(tokenizer, word) for words in SYNONYMS.values() for word in words}
    with torch.no_grad():
        for kind, words in SYNONYMS.items():
            for word in words:
                table[tokens[word]] = table[tokenizer.encode(kind)[-1]]
    learnt = torch.zeros(len(table), 1)
    learnt[list(tokens.values())] = 1.0
    table.requires_grad_(True)
    optimizer = torch.optim.Adam([table], lr=0.01)
    rng = random.Random(seed)  # words, not secrets
    losses = []
    for _ in range(steps):
        pairs = [_pair(rng) for _ in range(batch)]
        found = encode_tokens(module, tokenizer([new for new, _ in pairs]))
        with torch.no_grad():
            wanted = encode_tokens(module, tokenizer([known for _, known in pairs]))
        lengths = found.norm(dim=-1) / wanted.norm(dim=-1) - 1
        loss = (1 - cosine_similarity(found, wanted)).mean() + 0.1 * lengths.square().mean()
        optimizer.zero_grad()
        loss.backward()
        table.grad.mul_(learnt)
        optimizer.step()
        losses.append(float(loss.detach()))
    table.requires_grad_(False)
    return losses


def _token(tokenizer: SimpleTokenizer, word: str) -> int:
    [token] = tokenizer.encode(word)
    return int(token)


def _pair(rng: random.Random) -> tuple[str, str]:
    """A sentence with one of the new words, and the same with the known one."""
    kind = rng.choice(list(SYNONYMS))
    word = rng.choice(SYNONYMS[kind])
    adjectives = [rng.choice(COLOURS)] if rng.random() < 0.5 else []
    if rng.random() < 0.15:
        adjectives.append(rng.choice(PATTERNS))
    template = rng.choice(_TEMPLATES)
    new = " ".join((*adjectives, word)) if word in _PLURAL else noun_phrase(word, adjectives)
    if rng.random() < 0.15:
        # As typed into a search field.
        return " ".join((*adjectives, word)), " ".join((*adjectives, kind))
    return template.format(new), template.format(noun_phrase(kind, adjectives))


def main(arguments: Sequence[str] | None = None) -> None:
    """Finish trained weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("trained", type=Path, help="weights as scripts.small_clip.train writes them")
    parser.add_argument("out", type=Path, help="file to write")
    options = parser.parse_args(arguments)
    weights = load_file(options.trained)
    module: Any = load_model("cir-small", str(options.trained), config_file=TOWER).module
    losses = teach(module)
    print(f"loss of the new words: {losses[0]:.4f} at first, {losses[-1]:.4f} at last")
    name = "token_embedding.weight"
    save_file({**scale_images(weights), name: module.token_embedding.weight.half()}, options.out)


if __name__ == "__main__":
    main()
