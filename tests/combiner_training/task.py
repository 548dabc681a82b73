"""A task that can be learned: the target is the image with some of its values replaced by the text's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import safe_open

from combiner_training.data import TrainingData, training_data
from combiner_training.datasets.base import Query, Split
from combiner_training.evaluation.protocol import protocol_for
from combiner_training.evaluation.queries import evaluation_queries
from combiner_training.feature_file import FeatureFolder, FeatureKind
from combiner_training.options import TrainOptions
from combiner_training.train import Validation
from tests.combiner_training.evaluation.examples import Vector, split_of, table_of

HALF = 8
OPTIONS = TrainOptions(
    epochs=6, batch_size=32, learning_rate=3e-3, projection_dim=24, hidden_dim=32, seed=3, device="cpu"
)


def small_task(dataset: str = "triplets") -> tuple[Split, Split, FeatureFolder]:
    """Train and val splits over 64 images, 8 kinds in the first half of the values and 8 colours in the
    second; a text names a colour by a code of its own, in two captions for FashionIQ."""
    random = np.random.default_rng(0)
    kinds, colours = random.standard_normal((2, 8, HALF)).astype(np.float32) * 2
    codes = random.standard_normal((8, 2 * HALF)).astype(np.float32) * 2
    images: dict[str, Vector | None] = {
        f"{kind}{colour}": np.concatenate([kinds[kind], colours[colour]])
        for kind in range(8)
        for colour in range(8)
    }
    texts: dict[str, Vector | None] = {}
    queries: list[Query] = []
    for kind in range(8):
        for start in range(8):
            for end in range(8):
                if start == end:
                    continue
                text = f"in colour {end}"
                texts[text] = codes[end]
                queries.append(Query(f"{kind}-{start}-{end}", f"{kind}{start}", (text,), (f"{kind}{end}",)))
    if dataset == "fashioniq":
        queries = [replace(query, texts=(query.texts[0], "as told")) for query in queries]
        for query in queries:
            of_query = texts[f"in colour {query.id[-1]}"]
            first = query.texts[0].capitalize()
            for text in (f"{first} and as told", f"As told and {query.texts[0]}", first, "As told"):
                texts[text] = of_query
    order = random.permutation(len(queries))
    train = [queries[index] for index in order[:300]]
    val = [queries[index] for index in order[300:360]]
    folder = FeatureFolder(table_of(FeatureKind.IMAGES, images), table_of(FeatureKind.TEXTS, texts))
    return (
        split_of(train, list(images), dataset, "train"),
        split_of(val, list(images), dataset, "val"),
        folder,
    )


def ready(dataset: str = "triplets") -> tuple[TrainingData, Validation]:
    """The task, looked up."""
    train, val, features = small_task(dataset)
    return training_data([train], features), validation_of([val], features, dataset)


def validation_of(splits: Sequence[Split], features: FeatureFolder, dataset: str) -> Validation:
    protocol = protocol_for(dataset)
    parts = [evaluation_queries(split, features.images, features.texts, protocol) for split in splits]
    return Validation(parts, protocol)


class Silent:
    """Progress that only remembers its last note."""

    def __init__(self) -> None:
        self.note = ""

    def start(self, what: str, total: int) -> None: ...

    def advance(self, done: int, note: str = "") -> None:
        self.note = note

    def stop(self) -> None: ...


Content = tuple[dict[str, str], dict[str, bytes]]


def files_of(folder: Path) -> dict[str, Content]:
    """Read what two runs with one result share: metadata and the bits of every tensor."""
    files: dict[str, Content] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
            files[path.name] = (file.metadata(), tensors)
    return files
