"""A Combiner from a catalog's own columns or titles, on queries in other people's words.

Usage: python -m benchmarks.adapt [--items 4000] [--seed 7] [--row NAME ...] [--folder DIR] [--json FILE]

Garments are drawn with a manifest and with queries whose answers are known. Each row takes the manifest as a
shop has it (whole, in part, with values missing, wrong or doubled, with titles alone), makes triplets of it,
trains from random weights as `cir adapt` does, and is measured on the garments' own test queries, which no
row has seen: sentences of another grammar. Beside them stand the baselines and the shipped Combiner, which
was trained on the garments' own sentences. CPU seconds are those of this process: texts, then training.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cir_cli.embedding_backends import LocalModel
from cir_cli.run_features import settings_of
from combiner_training.adapt.dataset import CatalogItems, DatasetOptions, make_dataset
from combiner_training.adapt.recipe import train_options
from combiner_training.data import training_data
from combiner_training.datasets.base import Dialogue, Split
from combiner_training.datasets.triplets import DIALOGUES_FILE, TRIPLETS_FILE, load_dialogues, load_triplets
from combiner_training.evaluation.compare import compare
from combiner_training.evaluation.evaluate import evaluate, evaluate_dialogues
from combiner_training.evaluation.load_combiner import load_combiner, shipped_checkpoints
from combiner_training.evaluation.protocol import protocol_for
from combiner_training.evaluation.queries import evaluation_queries
from combiner_training.evaluation.sentences import Evaluated
from combiner_training.extract import extract_images, extract_texts
from combiner_training.feature_file import FeatureFolder, open_folder
from combiner_training.train import Validation, train
from garments.catalog import make_catalog

COLUMNS = ("kind", "colour", "pattern", "sleeve", "length", "neckline")
PROTOCOL = protocol_for("garments")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What a row takes of the manifest: `items`, train combinations alone, and shares of bad values.

    Of each item `triplets` are made; 0 are as many as `cir adapt` makes.
    """

    items: int = 0
    of_train: bool = False
    missing: float = 0.0
    wrong: float = 0.0
    doubled: float = 0.0
    triplets: int = 0
    title: str = ""


ROWS: Mapping[str, Trouble] = {
    "whole catalog": Trouble(),
    "train combinations": Trouble(of_train=True),
    "titles alone": Trouble(title="caption"),
    "1,000 items": Trouble(items=1000),
    "500 items": Trouble(items=500),
    "250 items": Trouble(items=250),
    "1,000 items, 8 triplets each": Trouble(items=1000, triplets=8),
    "500 items, 8 triplets each": Trouble(items=500, triplets=8),
    "250 items, 8 triplets each": Trouble(items=250, triplets=8),
    "10 % wrong": Trouble(wrong=0.1),
    "30 % missing": Trouble(missing=0.3),
    "30 % missing, 10 % wrong, 10 % doubled": Trouble(missing=0.3, wrong=0.1, doubled=0.1),
}


class Quiet:
    """Progress that is told to nobody."""

    def start(self, what: str, total: int) -> None:
        """Nothing."""

    def advance(self, done: int, note: str = "") -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Garments:
    """The drawn catalog with its features, and the queries that everything is measured on."""

    rows: tuple[Row, ...]
    features: FeatureFolder
    test: Split
    dialogues: tuple[Dialogue, ...]
    folder: Path


def prepare(folder: Path, items: int, seed: int, model: LocalModel) -> Garments:
    """Draw the catalog and embed its images and the test's texts; what the folder has is not made anew."""
    drawn = folder / "garments"
    # Written last.
    if not (drawn / DIALOGUES_FILE).exists():
        make_catalog(drawn, size=items, seed=seed)
    test = load_triplets(drawn / TRIPLETS_FILE, "test")
    dialogues = load_dialogues(drawn / DIALOGUES_FILE, "test")
    rows = tuple(json.loads(line) for line in (drawn / "garments.jsonl").read_text().splitlines())
    paths = {row["image"]: drawn / row["image"] for row in rows}
    extract_images(folder / "features", paths, model, dtype="float32", progress=Quiet())
    texts = [query.texts[0] for query in test.queries]
    texts += [turn.text for dialogue in dialogues for turn in dialogue.turns]
    extract_texts(folder / "features", texts, model, dtype="float32", progress=Quiet())
    return Garments(rows, open_folder(folder / "features"), test, dialogues, folder)


def troubled(garments: Garments, trouble: Trouble, seed: int) -> CatalogItems:
    """The catalog as a shop with these troubles has it."""
    rng = random.Random(seed)  # troubles, not secrets
    values = {name: sorted({row[name] for row in garments.rows if name in row}) for name in COLUMNS}
    rows = [row for row in garments.rows if not trouble.of_train or row["split"] == "train"]
    payloads = []
    for row in rows[: trouble.items or None]:
        changed = {name: value for name, value in row.items() if name not in ("id", "image")}
        for name in COLUMNS:
            if name in row:
                drawn, other = rng.random(), rng.choice([one for one in values[name] if one != row[name]])
                if drawn < trouble.missing:
                    del changed[name]
                elif drawn < trouble.missing + trouble.wrong:
                    changed[name] = other
                elif drawn < trouble.missing + trouble.wrong + trouble.doubled:
                    changed[name] = [row[name], other]
        payloads.append(changed)
    names = tuple(row["image"] for row in rows[: trouble.items or None])
    images = garments.features.images
    header = images.header
    return CatalogItems(
        "garments", names, tuple(payloads), images.take(images.rows(names)), header.model_fingerprint, {}, {}
    )


def measured(garments: Garments, combiner: Evaluated) -> dict[str, float]:
    """R@1, 5, 10 and the success of the third turn, in percent."""
    features = garments.features
    queries = evaluation_queries(garments.test, features.images, features.texts, PROTOCOL)
    metrics = evaluate(combiner, [queries], PROTOCOL).metrics
    talks = evaluate_dialogues(combiner, garments.dialogues, garments.test.gallery, features)
    return {
        **{f"R@{k}": round(100 * metrics[f"recall@{k}"], 1) for k in (1, 5, 10)},
        "third turn S@10": round(100 * talks.success[10][2], 1),
    }


def adapted(
    garments: Garments, name: str, trouble: Trouble, model: LocalModel, seed: int, epochs: int = 0
) -> dict[str, Any]:
    """Make triplets, train and measure; the figures of one row."""
    started = time.process_time()
    items = troubled(garments, trouble, seed)
    dataset = DatasetOptions(title=trouble.title, seed=seed)
    if trouble.triplets:
        dataset = replace(dataset, most_triplets=trouble.triplets * len(items.names))
    data = make_dataset(items, dataset)
    texts = [query.texts[0] for split in data.splits.values() for query in split.queries]
    extract_texts(garments.folder / "features", texts, model, dtype="float32", progress=Quiet())
    features = open_folder(garments.folder / "features")
    triplets = training_data([data.splits["train"]], features)
    options = train_options(len(triplets.ids), epochs=epochs, seed=seed, device="cpu")
    protocol = protocol_for("shop")
    validation = Validation(
        [evaluation_queries(data.splits["val"], features.images, features.texts, protocol)], protocol
    )
    made = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        train(triplets, validation, options, Path(folder), progress=Quiet())
        ended = time.process_time()
        combiner = load_combiner(str(Path(folder) / "best.safetensors"), features)
        return {
            "trained on": name,
            "items": len(items.names),
            "usable": data.usable,
            "triplets": len(triplets.ids),
            "epochs": options.epochs,
            **measured(garments, combiner),
            "CPU s": [round(made - started), round(ended - made)],
        }


def baselines(garments: Garments) -> list[dict[str, Any]]:
    """Everything that needs no training, and the shipped Combiner."""
    features = garments.features
    queries = evaluation_queries(garments.test, features.images, features.texts, PROTOCOL)
    rows = [
        {"trained on": f"({row.combiner}) {row.note}".strip()}
        | {f"R@{k}": round(100 * row.evaluation.metrics[f"recall@{k}"], 1) for k in (1, 5, 10)}
        for row in compare([], [queries], PROTOCOL).rows
    ]
    for path in shipped_checkpoints().values():
        rows.append(
            {
                "trained on": f"(shipped: {path.stem})",
                **measured(garments, load_combiner(str(path), features)),
            }
        )
    return rows


def shown(row: Mapping[str, Any]) -> str:
    """One line of the table."""
    cells = [
        str(row.get(name, "")) for name in ("items", "triplets", "R@1", "R@5", "R@10", "third turn S@10")
    ]
    spent = " + ".join(map(str, row.get("CPU s", ())))
    return f"{row['trained on']:<62}" + "".join(f"{cell:>10}" for cell in cells) + f"  {spent}"


def main(given: Sequence[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=4000, help="garments to draw")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--row", action="append", choices=list(ROWS), help="only this row; repeatable")
    parser.add_argument("--epochs", type=int, default=0, help="fewer than cir adapt's, to see that it runs")
    parser.add_argument("--folder", type=Path, help="keep the catalog and its features here for another run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    arguments = parser.parse_args(given)
    torch.set_num_threads(1)
    model = LocalModel(settings_of({"architecture": "cir-small", "pretrained": "shipped"}), 64)
    with tempfile.TemporaryDirectory() as temporary:
        garments = prepare(arguments.folder or Path(temporary), arguments.items, arguments.seed, model)
        head = {
            "trained on": "trained on",
            "items": "items",
            "triplets": "triplets",
            "third turn S@10": "turn 3",
        }
        print(
            shown({**head, **{f"R@{k}": f"R@{k}" for k in (1, 5, 10)}, "CPU s": ["texts", "train"]}),
            flush=True,
        )
        figures = baselines(garments)
        for row in figures:
            print(shown(row), flush=True)
        for name in arguments.row or ROWS:
            if (ROWS[name].items or 0) > arguments.items:
                continue
            figures.append(adapted(garments, name, ROWS[name], model, arguments.seed, arguments.epochs))
            print(shown(figures[-1]), flush=True)
    model.close()
    if arguments.json:
        facts = {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        }
        facts |= {"numpy": np.__version__}
        arguments.json.write_text(json.dumps({**facts, "rows": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
