"""The file of CIRCO's test server, against sorting."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from combiner_service.builtin import SumCombiner
from combiner_training.datasets.base import Query, Split
from combiner_training.evaluation.circo_submission import (
    IMAGES,
    check_circo_submission,
    circo_submission,
    write_circo_submission,
)
from combiner_training.evaluation.evaluate import EvaluationError
from combiner_training.evaluation.protocol import protocol_for
from combiner_training.evaluation.queries import EvaluationQueries, evaluation_queries
from combiner_training.feature_file import FeatureKind
from tests.combiner_training.evaluation.examples import Vector, split_of, table_of

NAMES = [f"{17 * n:012d}" for n in range(60)]


def small_split() -> Split:
    return split_of([Query(str(n), NAMES[n], (f"text {n}",)) for n in range(4)], NAMES, "circo", "test")


def looked_up(split: Split, without: str = "") -> tuple[EvaluationQueries, dict[str, Vector | None]]:
    random = np.random.default_rng(0)
    images: dict[str, Vector | None] = {n: random.standard_normal(12).astype(np.float32) for n in NAMES}
    texts: dict[str, Vector | None] = {
        query.texts[0]: random.standard_normal(12).astype(np.float32) for query in split.queries
    }
    tables = (
        table_of(FeatureKind.IMAGES, images | ({without: None} if without else {})),
        table_of(FeatureKind.TEXTS, texts),
    )
    return evaluation_queries(split, *tables, protocol_for("circo")), images | texts


def test_the_first_fifty_are_those_of_sorting_the_reference_among_them(tmp_path: Path) -> None:
    split = small_split()
    queries, vectors = looked_up(split)
    path = tmp_path / "out" / "circo.json"
    write_circo_submission(path, circo_submission(SumCombiner(), queries), split.queries, split.gallery)
    written = json.loads(path.read_text())
    assert list(written) == ["0", "1", "2", "3"]
    for query in split.queries:
        image, text = vectors[query.reference], vectors[query.texts[0]]
        assert image is not None
        assert text is not None

        def score(name: str, total: Vector = image + text) -> float:
            row = vectors[name]
            assert row is not None
            return float(total @ row / np.linalg.norm(row))

        order = sorted(NAMES, key=lambda name: -score(name))
        assert written[query.id] == [int(name) for name in order[:IMAGES]]
        assert query.reference in order[:IMAGES]


def test_a_submission_that_the_server_would_not_take_is_refused(tmp_path: Path) -> None:
    split = small_split()
    queries, _ = looked_up(split)
    whole = circo_submission(SumCombiner(), queries)
    for broken, message in (
        ({name: whole[name] for name in ("0", "1", "2")}, "'3' and 0 more are missing or unknown"),
        (whole | {"1": whole["1"][:-1]}, "query 1 of the submission"),
        (whole | {"1": [*whole["1"][:-1], whole["1"][0]]}, "query 1 of the submission"),
        (whole | {"1": [*whole["1"][:-1], 5]}, "query 1 of the submission"),
    ):
        with pytest.raises(EvaluationError, match=message):
            check_circo_submission(broken, split.queries, split.gallery)
    with pytest.raises(EvaluationError, match="wants every query over all images"):
        circo_submission(SumCombiner(), looked_up(split, without=NAMES[59])[0])
    with pytest.raises(EvaluationError, match="wants every query"):
        circo_submission(SumCombiner(), looked_up(replace(split), without=NAMES[1])[0])
