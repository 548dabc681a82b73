"""An epoch of training on cached features beside an epoch that encodes its pictures and texts, as the
method's released trainer does at every step.

Usage: python -m benchmarks.training [--architecture RN50x4] [--triplets 256] [--batch-size 128] [--json FILE]

Same triplets, same batches, same loss and optimizer; the one difference is where features come from. Pictures
are drawn (noise, 400 x 533, JPEG), weights of CLIP are random: speed does not depend on either. The network
has the published sizes unless told otherwise. The first epoch of each kind warms up and is not counted for
cached features; the encoding epoch is run once. An epoch with `--continued 0.4` is printed next to one
without, over triplets of which each but the first has one that leads to it.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cir_cli.embedding_backends import LocalModel
from combiner_service.network_loading import choose_device
from combiner_service.network_spec import NetworkSizes
from combiner_service.torch_network import CombinerNetwork
from combiner_training.data import Batch, training_data
from combiner_training.datasets.load import Dataset, load_splits
from combiner_training.dialogue_references import DialogueReferences
from combiner_training.extract import extract_images, extract_texts
from combiner_training.feature_file import FeatureFolder, open_folder
from combiner_training.train import batch_classification_loss
from embedder_service.settings import EmbedderSettings

_CONTINUED = 0.4


class Quiet:
    """Progress that is told to nobody."""

    def start(self, what: str, total: int) -> None:
        """Nothing."""

    def advance(self, done: int, note: str = "") -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


def write_data(folder: Path, count: int) -> None:
    """`count` triplets in a row: each but the first begins with the target of the one before."""
    random = np.random.default_rng(0)
    rows = []
    for index in range(count + 1):
        noise = random.integers(0, 256, (67, 50, 3), np.uint8)
        Image.fromarray(noise).resize((400, 533)).save(folder / f"{index:06}.jpg", quality=85)
    for index in range(count):
        names = {"reference": f"{index:06}.jpg", "target": f"{index + 1:06}.jpg"}
        rows.append({**names, "text": f"is more like number {index}", "id": str(index), "split": "train"})
    (folder / "triplets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def encoding(model: LocalModel, folder: Path, by_id: dict[str, Any]) -> Callable[[Batch], Batch]:
    """Replaces a batch's features by those of its pictures and texts, encoded now, 32 at a time."""

    def encode(batch: Batch) -> Batch:
        asked = [by_id[name] for name in batch.ids]
        parts: list[list[np.ndarray]] = [[], [], []]
        for at in range(0, len(asked), 32):
            some = asked[at : at + 32]
            parts[0].append(model.embed_images([(folder / q.reference).read_bytes() for q in some]).features)
            parts[1].append(model.embed_texts([q.texts[0] for q in some]).features)
            parts[2].append(model.embed_images([(folder / q.targets[0]).read_bytes() for q in some]).features)
        image, text, target = (np.concatenate(part) for part in parts)
        return replace(batch, image=image, text=text, target=target)

    return encode


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--architecture", default="RN50x4", help="open_clip architecture")
    parser.add_argument("--triplets", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--projection", type=int, default=2560)
    parser.add_argument("--hidden", type=int, default=5120)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    chosen: dict[str, Any] = {"architecture": arguments.architecture, "pretrained": "random:0"}
    settings = EmbedderSettings(**chosen, device=device, log_level="error")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, arguments.triplets)
        [split] = load_splits(Dataset.TRIPLETS, folder, "train")
        model = LocalModel(settings, 32)
        started = time.perf_counter()
        extract_images(folder / "features", dict(split.paths), model, progress=Quiet())
        extract_texts(folder / "features", [q.texts[0] for q in split.queries], model, progress=Quiet())
        extracting = time.perf_counter() - started
        features: FeatureFolder = open_folder(folder / "features")
        data = training_data([split], features)
        torch.manual_seed(0)
        sizes = NetworkSizes(features.dimension, arguments.projection, arguments.hidden)
        network = CombinerNetwork(sizes).to(device).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=2e-5)

        dialogues = DialogueReferences(data)
        # On the CPU its own time: others may be at work on the machine.
        clock = time.process_time if device == "cpu" else time.perf_counter

        def epoch(features_of: Callable[[Batch], Batch], continued: float = 0.0) -> float:
            started = clock()
            random = np.random.default_rng(0)
            references = dialogues.references(network, continued, random) if continued else None
            for taken in data.batches(random, arguments.batch_size, references=references):
                batch = features_of(taken)
                image, text, target = (
                    torch.from_numpy(part).to(device) for part in (batch.image, batch.text, batch.target)
                )
                queries, _ = network(image, text)
                loss = batch_classification_loss(queries, target)
                loss.item()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            if device != "cpu":
                torch.cuda.synchronize()
            return clock() - started

        epoch(lambda batch: batch)
        # By turns: what else the machine does meets both.
        turns = [(epoch(lambda batch: batch), epoch(lambda batch: batch, _CONTINUED)) for _ in range(3)]
        cached, continued = (min(times) for times in zip(*turns, strict=True))
        encoded = epoch(encoding(model, folder, {query.id: query for query in split.queries}))
        model.close()
    row = {
        "device": torch.cuda.get_device_name() if device != "cpu" else "cpu",
        "architecture": arguments.architecture,
        "triplets": arguments.triplets,
        "batch_size": arguments.batch_size,
        "network": [sizes.feature_dim, sizes.projection_dim, sizes.hidden_dim],
        "extract_seconds": round(extracting, 2),
        "cached_epoch_seconds": round(cached, 3),
        "continued_epoch_seconds": round(continued, 3),
        "continued_times": round(continued / cached, 2),
        "encoding_epoch_seconds": round(encoded, 2),
        "times_faster": round(encoded / cached, 1),
    }
    print(
        f"{arguments.triplets} triplets, batches of {arguments.batch_size}, {arguments.architecture}, "
        f"{row['device']}"
    )
    print(f"  an epoch on cached features       {row['cached_epoch_seconds']:9} s")
    print(
        f"  the same with --continued {_CONTINUED}     {row['continued_epoch_seconds']:9} s, "
        f"{row['continued_times']} times as long"
    )
    print(
        f"  an epoch that encodes (baseline)  {row['encoding_epoch_seconds']:9} s, "
        f"{row['times_faster']} times as long"
    )
    print(f"  extracting once                   {row['extract_seconds']:9} s")
    if arguments.json:
        facts = {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
        arguments.json.write_text(json.dumps({**facts, **row}, indent=2) + "\n")


if __name__ == "__main__":
    main()
