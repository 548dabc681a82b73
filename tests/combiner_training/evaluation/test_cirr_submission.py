import json
from pathlib import Path

import numpy as np
import pytest

from combiner_service.builtin import SumCombiner
from combiner_training.datasets.base import Query, Split
from combiner_training.datasets.load import Dataset, load_splits
from combiner_training.evaluation.cirr_submission import (
    MAX_BYTES,
    NAMES,
    Submission,
    check_submission,
    cirr_submission,
    write_submission,
)
from combiner_training.evaluation.evaluate import EvaluationError
from combiner_training.evaluation.protocol import protocol_for
from combiner_training.evaluation.queries import EvaluationQueries, evaluation_queries
from combiner_training.feature_file import FeatureKind
from tests.combiner_training.evaluation.examples import Vector, split_of, table_of

CIRR = Path(__file__).resolve().parents[4] / "shared" / "data" / "cirr"


def features_for(split: Split, width: int = 12) -> tuple[dict[str, Vector | None], dict[str, Vector | None]]:
    random = np.random.default_rng(0)
    images: dict[str, Vector | None] = {
        n: random.standard_normal(width).astype(np.float32) for n in split.paths
    }
    texts = dict.fromkeys(query.texts[0] for query in split.queries)
    return images, {text: random.standard_normal(width).astype(np.float32) for text in texts}


def small_split() -> Split:
    names = [f"img{n}" for n in range(60)]
    return split_of(
        [Query(str(100 + n), names[n], (f"text {n % 3}",), (), tuple(names[n : n + 6])) for n in range(5)],
        names,
        "cirr",
        "test1",
    )


def looked_up(
    split: Split, images: dict[str, Vector | None], texts: dict[str, Vector | None]
) -> EvaluationQueries:
    return evaluation_queries(
        split, table_of(FeatureKind.IMAGES, images), table_of(FeatureKind.TEXTS, texts), protocol_for("cirr")
    )


def by_sorting(split: Split, images: dict[str, Vector], texts: dict[str, Vector], query: Query) -> list[str]:
    total = images[query.reference].astype(np.float64) + texts[query.texts[0]]
    vector = (total / np.linalg.norm(total)).astype(np.float32).astype(np.float64)

    def score(name: str) -> float:
        row = images[name].astype(np.float64)
        return float((vector * (row / np.linalg.norm(row)).astype(np.float32)).sum())

    return sorted((name for name in split.gallery if name != query.reference), key=lambda name: -score(name))


def test_names_are_those_of_sorting() -> None:
    split = small_split()
    images, texts = features_for(split)
    files = cirr_submission(SumCombiner(), looked_up(split, images, texts))
    assert {metric: files[metric]["metric"] for metric in files} == {name: name for name in NAMES}
    for query in split.queries:
        order = by_sorting(split, images, texts, query)  # type: ignore[arg-type]
        assert files["recall"][query.id] == order[:50]
        assert files["recall_subset"][query.id] == [name for name in order if name in query.group][:3]


def test_both_files_are_written_as_the_server_takes_them(tmp_path: Path) -> None:
    split = small_split()
    files = cirr_submission(SumCombiner(), looked_up(split, *features_for(split)))
    paths = write_submission(tmp_path / "out", files, split.queries, split.gallery)
    assert [path.name for path in paths] == ["recall_submission.json", "recall_subset_submission.json"]
    for path, (metric, count) in zip(paths, NAMES.items(), strict=True):
        document = json.loads(path.read_text())
        assert document.pop("version") == "rc2"
        assert document.pop("metric") == metric
        assert set(document) == {query.id for query in split.queries}
        assert {len(names) for names in document.values()} == {count}


@pytest.mark.parametrize("lost", ["img3", "text 1"])
def test_missing_images_are_not_passed_over(lost: str) -> None:
    split = small_split()
    images, texts = features_for(split)
    (images if lost in images else texts)[lost] = None
    with pytest.raises(EvaluationError, match=r"wants every query.*MISSING: [1-9]"):
        cirr_submission(SumCombiner(), looked_up(split, images, texts))


def broken(change: str) -> Submission:
    split = small_split()
    submission = cirr_submission(SumCombiner(), looked_up(split, *features_for(split)))["recall"]
    names = submission["102"]
    assert isinstance(names, list)
    if change == "a pair less":
        del submission["102"]
    elif change == "a pair more":
        submission["999"] = names
    elif change == "a name less":
        names.pop()
    elif change == "a name twice":
        names[0] = names[1]
    elif change == "the reference":
        names[0] = "img2"
    elif change == "a name that is not there":
        names[0] = "img999"
    elif change == "another version":
        submission["version"] = "rc1"
    elif change == "another metric":
        submission["metric"] = "precision"
    else:
        submission["102"] = change
    return submission


@pytest.mark.parametrize(
    "change",
    ["a pair less", "a pair more", "a name less", "a name twice", "the reference", "a name that is not there",
     "another version", "another metric", "no list"],
)  # fmt: skip
def test_a_submission_that_the_server_would_refuse_is_refused(change: str) -> None:
    split = small_split()
    with pytest.raises(EvaluationError):
        check_submission(broken(change), split.queries, split.gallery)


def test_a_subset_of_another_group_is_refused() -> None:
    split = small_split()
    files = cirr_submission(SumCombiner(), looked_up(split, *features_for(split)))
    files["recall_subset"]["100"] = ["img50", "img51", "img52"]
    with pytest.raises(EvaluationError, match="pair 100 of the submission for recall_subset"):
        check_submission(files["recall_subset"], split.queries, split.gallery)


@pytest.mark.slow
@pytest.mark.skipif(not CIRR.is_dir(), reason="the real CIRR annotation is not there")
def test_the_real_test_split_fits_the_server(tmp_path: Path) -> None:
    [split] = load_splits(Dataset.CIRR, CIRR, "test1")
    files = cirr_submission(SumCombiner(), looked_up(split, *features_for(split)))
    paths = write_submission(tmp_path, files, split.queries, split.gallery)
    for path in paths:
        assert path.stat().st_size <= MAX_BYTES
        assert len(json.loads(path.read_text())) == 4150
