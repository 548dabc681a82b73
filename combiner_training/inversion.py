"""Training of phi, the network of an inversion, without any triplet: from captions or from images alone.

From captions, after LinCIR (Gu et al., CVPR 2024): the word that phi makes of a caption's own text features,
with noise on them, takes the place of the caption's content words, and the sentence must keep the caption's
features. From images, after Pic2Word (Saito et al., CVPR 2023): the sentence around the word of an image must
be told from those of the other images of the batch. The text tower is frozen; a run that was killed is
resumed from its last validation, and ends as one that was not.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cir.prompts import Slot, TemplateError, parse_template
from combiner_service.checkpoint import CheckpointMetadata, write_checkpoint
from combiner_service.combiner import Float32
from combiner_service.inversion import InversionTraits
from combiner_service.network_spec import PhiSizes
from combiner_service.torch_network import Phi
from combiner_training.captions import content_runs
from combiner_training.inversion_options import InversionOptions
from combiner_training.log import TrainingLog
from combiner_training.options import TrainingError
from combiner_training.progress import Progress
from combiner_training.train import LOGIT_SCALE, writing
from combiner_training.train_state import FILE, TrainState, load_state, save_state

#: Length that phi takes features at: about that of CLIP's own, whatever the model's.
FEATURE_LENGTH = 10.0
# Share of captions or images that are kept out, to choose the best by.
_HELD_OUT = 0.1
_MOST_HELD_OUT = 1000
_LEAST = 20
_CHUNK = 256


class TextTower(Protocol):
    """The frozen text tower, in torch."""

    fingerprint: str
    dimension: int
    token_width: int
    context: int
    begin: int
    end: int

    def words(self, text: str) -> list[int]:
        """Return the ids of all words of a text."""

    def encode(self, tokens: Tensor, words: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return raw features (n, d) of tokens (n, length); where `mask` is true `words`, (n, width), replace
        them. Differentiable in `words`."""


@dataclass(frozen=True, slots=True, eq=False)
class InversionData:
    """Data that phi is learned from: (n, d) raw features of `captions`, or of images where it is empty."""

    name: str
    model_fingerprint: str
    features: Float32
    captions: tuple[str, ...] = ()

    def digest(self) -> str:
        """Return a digest that trainings on the same data share."""
        whole = hashlib.sha256(self.model_fingerprint.encode() + self.features.tobytes())
        whole.update("\0".join(self.captions).encode())
        return whole.hexdigest()


@dataclass(frozen=True, slots=True)
class InversionResult:
    """End of a training: its round, the best recall at 1 of what was kept out, and the rows of each part."""

    epoch: int
    best: float
    rows: int
    held_out: int


def caption_data(captions: Sequence[str], tower: TextTower, name: str) -> InversionData:
    """Embed captions, each once.

    Raises:
        TrainingError: There are too few.
    """
    unique = tuple(dict.fromkeys(text.strip() for text in captions if text.strip()))
    _check_count(len(unique), "different captions")
    rows = [_sentence(tower, [tower.words(text)]) for text in unique]
    with torch.inference_mode():
        parts = [
            tower.encode(_batch(rows[start : start + _CHUNK]).tokens) for start in range(0, len(rows), _CHUNK)
        ]
    features: Float32 = torch.cat(parts).numpy().astype(np.float32)
    return InversionData(name, tower.fingerprint, features, unique)


def image_data(features: Float32, fingerprint: str, name: str) -> InversionData:
    """Take the features of images, those that are usable.

    Raises:
        TrainingError: There are too few.
    """
    sound = features[np.isfinite(features).all(axis=1) & features.any(axis=1)]
    _check_count(len(sound), "images with features")
    return InversionData(name, fingerprint, sound)


def train_inversion(
    data: InversionData,
    tower: TextTower,
    options: InversionOptions,
    folder: Path,
    *,
    resume: bool = False,
    progress: Progress,
) -> InversionResult:
    """Train into `folder`: `best.safetensors`, `last.safetensors`, `metrics.jsonl` and `.csv`.

    Raises:
        TrainingError: Data of another model than the tower's, a template that is none, a folder in use or of
            another training, a loss that is not finite, a full disk. What was written before stays as it was.
    """
    try:
        template = parse_template(options.template)
    except TemplateError as error:
        raise TrainingError(f"`template`: {error}") from error
    if data.model_fingerprint != tower.fingerprint:
        raise TrainingError(
            f"the features are of model {data.model_fingerprint}, the text tower is of {tower.fingerprint}; "
            "name the model that made them"
        )
    if (folder / FILE).exists() and not resume:
        raise TrainingError(f"{folder} holds a training; continue it with `resume`, or give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(options.seed).permutation(len(data.features))
    held = min(_MOST_HELD_OUT, math.ceil(_HELD_OUT * len(order)))
    kept_out, rows = order[:held], order[held:]
    size = min(options.batch_size, len(rows))
    inputs = functional.normalize(torch.from_numpy(data.features), dim=-1)

    torch.manual_seed(options.seed)
    network = Phi(PhiSizes(tower.dimension, options.hidden_dim, tower.token_width), options.dropout).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.learning_rate, weight_decay=0.01)
    config = _run_config(data, options)
    state = load_state(folder, network, optimizer, config) if resume else TrainState(run_config=config)
    with writing(folder):
        log = TrainingLog(folder, state.epoch)
    # The sentence in which the image's word stands alone, for images and for what is kept out.
    around = {part: tower.words(part) for part in template.parts if not isinstance(part, Slot)}
    shown = [part for part in template.parts if part is not Slot.TEXT]
    alone = _sentence(tower, [None if part is Slot.IMAGE else around[part] for part in shown])
    runs = [[(tower.words(text), is_content) for text, is_content in content_runs(c)] for c in data.captions]

    rounds = math.ceil(options.steps / options.validate_every)
    progress.start("rounds", rounds)
    progress.advance(state.epoch)
    for epoch in range(state.epoch + 1, rounds + 1):
        started = time.perf_counter()
        random = np.random.default_rng([options.seed, epoch])
        torch.manual_seed(int(random.integers(2**63)))
        losses = []
        first = (epoch - 1) * options.validate_every
        for step in range(first, min(first + options.validate_every, options.steps)):
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * 0.5 * (1 + math.cos(math.pi * step / options.steps))
            chosen = rows[random.permutation(len(rows))[:size]]
            wanted = inputs[chosen]
            if data.captions:
                words = network(_noisy(wanted, options.noise, random) * FEATURE_LENGTH)
                sentences = _batch([_with_words(tower, runs[index], random) for index in chosen])
                made = functional.normalize(tower.encode(sentences.tokens, words, sentences.mask), dim=-1)
                loss = (1 - (made * wanted).sum(dim=-1)).mean()
            else:
                words = network(wanted * FEATURE_LENGTH)
                sentences = _batch([alone] * len(chosen))
                made = functional.normalize(tower.encode(sentences.tokens, words, sentences.mask), dim=-1)
                logits = LOGIT_SCALE * made @ wanted.T
                labels = torch.arange(len(chosen))
                loss = (
                    functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)
                ) / 2
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise TrainingError(
                    f"the loss is {losses[-1]} in step {step + 1}; give a lower `learning_rate`. What was "
                    "saved before is kept"
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        recall = _recall(network, tower, alone, inputs[kept_out])
        better = recall > state.best.get("best", -math.inf)
        state = replace(
            state,
            epoch=epoch,
            best=state.best | ({"best": recall} if better else {}),
            since_best=0 if better else state.since_best + 1,
        )
        entry = {
            "epoch": epoch,
            "loss": sum(losses) / len(losses),
            "steps": len(losses),
            "held-out recall@1": recall,
            "seconds": round(time.perf_counter() - started, 4),
        }
        with writing(folder):
            if better:
                _write(folder / "best.safetensors", network, data, options, state, recall, held)
            log.append(entry)
            log.write_csv()
            save_state(folder, network, optimizer, state)
        progress.advance(epoch, f"loss {entry['loss']:.4f}, held-out recall@1 {recall:.4f}")
    with writing(folder):
        recall = _recall(network, tower, alone, inputs[kept_out])
        _write(folder / "last.safetensors", network, data, options, state, recall, held)
    return InversionResult(state.epoch, state.best.get("best", 0.0), len(rows), held)


def _check_count(count: int, what: str) -> None:
    if count < _LEAST:
        raise TrainingError(f"{count} {what}; at least {_LEAST} are needed to learn from")


@dataclass(frozen=True, slots=True)
class _Sentence:
    """Tokens, and the places of the image's word among them."""

    tokens: tuple[int, ...]
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    tokens: Tensor
    mask: Tensor


def _noisy(features: Tensor, share: float, random: np.random.Generator) -> Tensor:
    """Add noise of up to `share` of the features' length, and bring them back to length 1."""
    count, width = features.shape
    noise = random.random((count, 1)) * random.standard_normal((count, width)) * (share / math.sqrt(width))
    return functional.normalize(features + torch.from_numpy(noise.astype(np.float32)), dim=-1)


def _sentence(tower: TextTower, pieces: Sequence[Sequence[int] | None]) -> _Sentence:
    """Lay out ids of words, None for the image's word, between begin and end, cut to the context."""
    tokens, places = [tower.begin], []
    for piece in pieces:
        if piece is None:
            places.append(len(tokens))
        tokens += [0] if piece is None else piece
    tokens = tokens[: tower.context - 1]
    return _Sentence((*tokens, tower.end), tuple(place for place in places if place < len(tokens)))


def _with_words(
    tower: TextTower, runs: Sequence[tuple[Sequence[int], bool]], random: np.random.Generator
) -> _Sentence:
    """Put the image's word in the place of a caption's content: of all of it, or at random of some."""
    content = [place for place, (_, is_content) in enumerate(runs) if is_content]
    chosen = set(content)
    if random.random() < 0.5:
        chosen = {place for place in content if random.random() < 0.5} or chosen
    pieces = [None if place in chosen else ids for place, (ids, _) in enumerate(runs)]
    return _sentence(tower, pieces or [None])


def _batch(sentences: Sequence[_Sentence]) -> _Batch:
    """Fill up to one length; what stands behind an end cannot change a feature."""
    length = max(len(one.tokens) for one in sentences)
    tokens = torch.zeros(len(sentences), length, dtype=torch.int64)
    mask = torch.zeros(len(sentences), length, dtype=torch.bool)
    for row, one in enumerate(sentences):
        tokens[row, : len(one.tokens)] = torch.tensor(one.tokens)
        mask[row, list(one.places)] = True
    return _Batch(tokens, mask)


def _recall(network: Phi, tower: TextTower, alone: _Sentence, rows: Tensor) -> float:
    """Return the share of rows that are the nearest to the sentence around their own word."""
    network.eval()
    try:
        with torch.inference_mode():
            made = []
            for part in torch.split(rows, _CHUNK):
                sentences = _batch([alone] * len(part))
                made.append(tower.encode(sentences.tokens, network(part * FEATURE_LENGTH), sentences.mask))
            nearest = (torch.cat(made) @ rows.T).argmax(dim=1)
            return float((nearest == torch.arange(len(rows))).float().mean())
    finally:
        network.train()


def _run_config(data: InversionData, options: InversionOptions) -> dict[str, str]:
    """Return what two runs must share to have the same result."""
    return {
        "data": f"{data.name} ({data.digest()[:16]})",
        **{name: str(getattr(options, name)) for name in options.__dataclass_fields__},
    }


def _write(
    path: Path,
    network: Phi,
    data: InversionData,
    options: InversionOptions,
    state: TrainState,
    recall: float,
    held_out: int,
) -> None:
    kind = "captions" if data.captions else "images"
    write_checkpoint(
        path,
        {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()},
        CheckpointMetadata(
            model_fingerprint=data.model_fingerprint,
            training_data=f"{data.name}: {len(data.features)} {kind}, no triplets",
            protocol=f"each of {held_out} {kind} kept out, told from the others by the sentence of its word",
            metrics={"held-out recall@1": recall},
            epoch=state.epoch,
            extra={
                **InversionTraits(options.template, FEATURE_LENGTH).texts(),
                "steps": str(options.steps),
                "batch_size": str(options.batch_size),
                "learning_rate": str(options.learning_rate),
                "seed": str(options.seed),
            },
        ),
    )
