"""Train the joint encoder that ships as an example, on drawn garments, and write its folder.

    cir garments make garments --size 4000 --seed 7
    cir features extract --dataset garments --root garments --out features --model cir-small \
        --pretrained shipped
    python -m scripts.joint_encoder.train garments features embedder_service/shipped/joint-garments

Its queries lie in the space of the features' model, whose fingerprint the folder carries. Two minutes of one
core; it shows the contract, and knows nothing but these garments.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from combiner_training.datasets.load import Dataset, load_splits
from combiner_training.feature_file import FeatureFolder, open_folder
from embedder_service.light.joint import FINGERPRINT, MODEL, TOKENS
from embedder_service.loading import load_served
from embedder_service.model.export import without_traces
from embedder_service.served import ServedModel
from embedder_service.settings import EmbedderSettings
from scripts.joint_encoder.network import JointNetwork

# The rate falls as a cosine over COURSE steps; the weights are those after STEPS of them.
COURSE, STEPS = 1200, 400
BATCH, RATE, WARM_UP, SCALE = 192, 2e-3, 50, 30.0
_OPSET = 18


@dataclass(frozen=True, slots=True, eq=False)
class Triplets:
    """References and texts of queries, (n,) and (n, 16), and the rows of the images that answer each."""

    references: np.ndarray
    tokens: np.ndarray
    targets: Sequence[Sequence[int]]


def read_triplets(root: Path, split: str, features: FeatureFolder, served: ServedModel) -> Triplets:
    """Read a split's queries as rows of the features' images."""
    place = {name: row for row, name in enumerate(features.images.header.names)}
    tokenizer: Any = served.model
    queries = [
        query
        for part in load_splits(Dataset("garments"), root, split)
        for query in part.queries
        if query.targets
    ]
    tokens = np.zeros((len(queries), TOKENS), np.int64)
    for row, query in zip(tokens, queries, strict=True):
        ids = tokenizer.tokenizer.words(query.texts[0])[:TOKENS]
        row[: len(ids)] = ids
    return Triplets(
        np.array([place[query.reference] for query in queries]),
        tokens,
        [[place[name] for name in query.targets] for query in queries],
    )


def floats(pixels: np.ndarray) -> Tensor:
    """Return float32 (n, 3, size, size) of uint8 (n, size, size, 3)."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def train(data: Triplets, pixels: np.ndarray, gallery: Tensor, steps: int) -> JointNetwork:
    """Train: a query is told from the batch's other targets, those that are right for it left out."""
    torch.manual_seed(0)
    network = JointNetwork(gallery.shape[1]).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    random = np.random.default_rng(0)
    for step in range(steps):
        rate = RATE * min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / COURSE))
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = random.choice(len(data.references), BATCH, replace=False)
        own = [data.targets[index] for index in chosen.tolist()]
        targets = np.array([right[int(random.integers(len(right)))] for right in own])
        queries = network(floats(pixels[data.references[chosen]]), torch.from_numpy(data.tokens[chosen]))
        logits = SCALE * queries @ gallery[targets].T
        also_right = torch.tensor(np.array([np.isin(targets, right) for right in own]))
        also_right.fill_diagonal_(False)  # torch's own
        loss = functional.cross_entropy(logits.masked_fill(also_right, -1e4), torch.arange(BATCH))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    return network.eval()


def recall(network: JointNetwork, data: Triplets, pixels: np.ndarray, gallery: Tensor, k: int) -> float:
    """Return the share of queries with an answer among the first `k`; the reference is none."""
    found = []
    with torch.inference_mode():
        for part in np.array_split(np.arange(len(data.references)), 8):
            references = data.references[part]
            scores = network(floats(pixels[references]), torch.from_numpy(data.tokens[part])) @ gallery.T
            scores[np.arange(len(part)), references] = -2
            best = scores.topk(k).indices.numpy()
            for row, index in zip(best, part.tolist(), strict=True):
                found.append(bool(np.isin(row, data.targets[index]).any()))
    return float(np.mean(found))


def write(network: JointNetwork, folder: Path, fingerprint: str, side: int) -> None:
    """Write the network as ONNX, and next to it the fingerprint of its model."""
    folder.mkdir(parents=True, exist_ok=True)
    batch = torch.export.Dim("batch")
    example = (torch.rand(2, 3, side, side), torch.ones(2, TOKENS, dtype=torch.int64))
    with redirect_stdout(io.StringIO()), torch.inference_mode():
        program: Any = torch.onnx.export(
            network, example, dynamo=True, dynamic_shapes=({0: batch}, {0: batch}),
            input_names=["pixels", "tokens"], output_names=["queries"], opset_version=_OPSET,
            external_data=False, verbose=False,
        )  # fmt: skip
    model = program.model_proto
    without_traces(model)
    onnx.save(model, folder / MODEL)
    (folder / FINGERPRINT).write_text(fingerprint + "\n")


def main(arguments: Sequence[str]) -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("features", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--weights", type=Path, help="write these, trained before, in place of new ones")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    features = open_folder(given.features)
    settings = EmbedderSettings(architecture="cir-small", pretrained="shipped", dtype="float32")
    served = load_served(settings)
    if served.info.fingerprint != features.model_fingerprint:
        parser.error("the features are not those of the shipped model; extract them again")
    names = features.images.header.names
    pixels = np.stack([served.preprocessor(Image.open(given.root / name)) for name in names])
    rows = features.images.take(np.arange(len(names)))
    gallery = functional.normalize(torch.from_numpy(np.asarray(rows, np.float32)), dim=-1)
    if given.weights:
        network = JointNetwork(gallery.shape[1]).eval()
        network.load_state_dict(torch.load(given.weights, weights_only=True))
    else:
        network = train(read_triplets(given.root, "train", features, served), pixels, gallery, given.steps)
    test = read_triplets(given.root, "test", features, served)
    for k in (1, 10):
        print(f"test recall at {k}: {100 * recall(network, test, pixels, gallery, k):.1f} %")
    write(network, given.out, features.model_fingerprint, served.preprocessor.size)


if __name__ == "__main__":
    main(sys.argv[1:])
