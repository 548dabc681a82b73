"""Evaluating from cached features, at the size of FashionIQ, beside ranking by sorting names.

Usage: python -m benchmarks.evaluation [--queries 6016] [--images 15536] [--dimension 640] [--json FILE]

Everything is timed from the feature files on: opening them, looking up the queries, combining, ranking,
metrics; once in this process, and once as the command `cir evaluate` with the start of its process. The
baseline is what the method's released code does: sort the whole gallery for each query and look its names up
as strings. It is run on a part of the queries and scaled up. Features are random: no metric means anything
here, and speed does not depend on their values.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from combiner_service.builtin import SumCombiner
from combiner_service.combiner import Combiner
from combiner_training.datasets.load import Dataset, load_splits
from combiner_training.evaluation.evaluate import Evaluation, combine_all, evaluate
from combiner_training.evaluation.protocol import protocol_for
from combiner_training.evaluation.queries import EvaluationQueries, evaluation_queries
from combiner_training.feature_file import FeatureHeader, FeatureKind, FeatureWriter, open_folder, paths_of

_BASELINE_QUERIES = 250


def write_data(folder: Path, queries: int, images: int, dimension: int) -> None:
    """A manifest of triplets with its features, float16."""
    names = [f"i{index:06}" for index in range(images)]
    texts = [f"change number {index}" for index in range(queries)]
    with (folder / "triplets.jsonl").open("w") as file:
        file.writelines(json.dumps({"image": name, "split": "val"}) + "\n" for name in names)
        for index, text in enumerate(texts):
            row = {
                "reference": names[index % images],
                "text": text,
                "target": names[(7 * index + 1) % images],
            }
            file.write(json.dumps({**row, "id": str(index), "split": "val"}) + "\n")
    random = np.random.default_rng(0)
    for path, kind, rows in zip(paths_of(folder), FeatureKind, (names, texts), strict=True):
        header = FeatureHeader(kind, tuple(rows), dimension, np.dtype(np.float16), "benchmark", {})
        with FeatureWriter(path, header) as writer:
            writer.append(random.standard_normal((len(rows), dimension), np.float32))
            writer.finish()


def evaluated(folder: Path, combiner: Combiner) -> tuple[Evaluation, EvaluationQueries]:
    """From files to metrics."""
    features, protocol = open_folder(folder), protocol_for("triplets")
    [split] = load_splits(Dataset.TRIPLETS, folder, "val")
    queries = evaluation_queries(split, features.images, features.texts, protocol)
    return evaluate(combiner, [queries], protocol), queries


def by_sorting(queries: EvaluationQueries, count: int) -> tuple[float, list[bool]]:
    """Seconds for `count` queries, and which have their target among the first 10."""
    started = time.perf_counter()
    vectors, _ = combine_all(
        SumCombiner(), queries.image_features[:count], queries.text_features[:count], queries.texts[:count]
    )
    names = np.array(queries.names)
    targets = names[queries.targets[:count, 0]]
    references = names[queries.references[:count]]
    order = np.argsort(1 - vectors @ queries.gallery.T, axis=-1)
    ranked = names[order]
    kept = ranked[ranked != references[:, None]].reshape(count, len(names) - 1)
    hits = (kept == targets[:, None])[:, :10].any(axis=1)
    return time.perf_counter() - started, hits.tolist()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=6016)
    parser.add_argument("--images", type=int, default=15_536)
    parser.add_argument("--dimension", type=int, default=640)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, arguments.queries, arguments.images, arguments.dimension)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        evaluation, queries = evaluated(folder, SumCombiner())
        in_process = time.perf_counter() - started
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        command = [sys.executable, "-m", "cir_cli", "evaluate", "--dataset", "triplets", "--root", name]
        started = time.perf_counter()
        subprocess.run([*command, "--features", name, "--combiner", "sum"], check=True, capture_output=True)
        whole = time.perf_counter() - started
        part = min(_BASELINE_QUERIES, arguments.queries)
        seconds, hits = by_sorting(queries, part)
    del evaluation
    row = {
        "queries": arguments.queries,
        "images": arguments.images,
        "dimension": arguments.dimension,
        "evaluate_seconds": round(in_process, 2),
        "command_seconds": round(whole, 2),
        "sorting_names_seconds": round(seconds * arguments.queries / part, 2),
        "added_memory_mib": round(memory),
        "baseline_recall_at_10": sum(hits) / part,
    }
    print(f"{arguments.queries} queries x {arguments.images} images, {arguments.dimension} values, sum")
    print(
        f"  evaluate, from files       {row['evaluate_seconds']:8} s, "
        f"at most {row['added_memory_mib']} MiB more memory"
    )
    print(f"  cir evaluate, the command  {row['command_seconds']:8} s")
    print(f"  sorting names (baseline)   {row['sorting_names_seconds']:8} s, scaled up from {part} queries")
    if arguments.json:
        facts = {"machine": platform.machine(), "python": platform.python_version(), "numpy": np.__version__}
        arguments.json.write_text(json.dumps({**facts, **row}, indent=2) + "\n")


if __name__ == "__main__":
    main()
