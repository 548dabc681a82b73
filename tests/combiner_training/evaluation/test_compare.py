import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from combiner_service.builtin import ImageCombiner, SumCombiner
from combiner_service.combiner import Combiner
from combiner_training.datasets.base import Query
from combiner_training.evaluation.compare import (
    WEIGHTS,
    Comparison,
    FixedSlerp,
    UnitSum,
    WeightedSum,
    compare,
    reported_rows,
    row_names,
    rows_always,
)
from combiner_training.evaluation.evaluate import evaluate
from combiner_training.evaluation.protocol import Gallery, Reference, protocol_for, selection_rules
from combiner_training.evaluation.queries import EvaluationQueries, evaluation_queries
from combiner_training.evaluation.tables import comparison_table, evaluation_table, markdown, short_name
from combiner_training.feature_file import FeatureKind
from combiner_training.options import OptionError
from combiner_training.plots import plot_comparison
from tests.combiner_training.evaluation.examples import split_of, table_of


def part_of(dataset: str, name: str = "val", *, missing: bool = False) -> EvaluationQueries:
    """Thirty queries over thirty images, whose target is three parts text and one part reference."""
    random = np.random.default_rng(2)
    images = {f"i{n}": random.standard_normal(8).astype(np.float32) for n in range(30)}
    texts, queries = {}, []
    for n in range(30):
        target = (n * 7 + 3) % 30
        wanted = (images[f"i{target}"] - 0.25 * images[f"i{n}"]) / 0.75
        texts[f"t{n}"] = wanted.astype(np.float32)
        group = (f"i{n}", f"i{target}", f"i{(n + 1) % 30}") if dataset == "cirr" else ()
        queries.append(Query(str(n), f"i{n}", (f"t{n}",), (f"i{target}",), group))
    split = split_of(queries, list(images), dataset, name)
    tables = (
        table_of(FeatureKind.IMAGES, images | ({"i5": None} if missing else {})),
        table_of(FeatureKind.TEXTS, texts),
    )
    return evaluation_queries(split, *tables, protocol_for(dataset))


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare([ImageCombiner()], [part_of("triplets", missing=True)], protocol_for("triplets"))


@pytest.mark.parametrize(("place", "mix"), [(3, WeightedSum), (4, UnitSum), (6, FixedSlerp)])
def test_every_baseline_is_there_and_the_mixes_have_the_best_of_their_weights(
    comparison: Comparison, place: int, mix: Callable[[float], Combiner]
) -> None:
    assert [row.combiner for row in comparison.rows] == [
        "image", "text", "sum", "weighted_sum", "unit_sum", "slerp", "best_slerp", "image",
    ]  # fmt: skip
    weighted = comparison.rows[place]
    part, protocol = part_of("triplets", missing=True), protocol_for("triplets")
    rule = next(iter(selection_rules("triplets").values()))
    tried = [evaluate(mix(weight), [part], protocol).metrics for weight in WEIGHTS]
    assert rule(weighted.evaluation.metrics) == max(rule(metrics) for metrics in tried)
    assert "text weight 0." in weighted.note


def test_sums_of_unit_vectors_and_slerp_do_not_see_lengths_and_raw_sums_do() -> None:
    random = np.random.default_rng(6)
    image, text = random.standard_normal((2, 5, 8)).astype(np.float32)

    def changed(mix: Combiner) -> float:
        before, after = (mix.combine(length * image, text).query_vectors for length in (1, 7))
        return float(np.abs(before - after).max())

    assert changed(UnitSum(0.4)) < 1e-6
    assert changed(FixedSlerp(0.4)) < 1e-6
    assert changed(WeightedSum(0.4)) > 0.1
    units = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in (image, text)]
    expected = 0.6 * units[0] + 0.4 * units[1]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(UnitSum(0.4).combine(image, text).query_vectors, expected, atol=1e-6)


def test_the_document_is_what_programs_expect(comparison: Comparison) -> None:
    document = json.loads(json.dumps(comparison.document()))
    assert set(document) == {"dataset", "protocol", "counts", "notes", "rows", "published"}
    assert document["dataset"] == "triplets"
    for row in document["rows"]:
        assert isinstance(row["combiner"], str)
        for k in (1, 5, 10, 50):
            assert 0 <= row[f"recall@{k}"] <= 1
    assert document["counts"]["gallery_missing"] == 1


def test_the_table_says_what_is_missing_and_how_it_was_measured(comparison: Comparison) -> None:
    table = comparison_table(comparison)
    assert "gallery=original; reference=drop; captions=and; ties by gallery order" in table
    assert "28 of 30 queries over 29 images; MISSING: 1 reference missing, 1 target missing" in table
    assert "| combiner     |" in table
    image = comparison.rows[0].evaluation.metrics["recall@10"]
    assert f"{100 * image:.2f}" in table
    assert "weighted_sum: text weight" in table
    assert "published" not in table


@pytest.mark.parametrize(("dataset", "k"), [("fashioniq", 10), ("cirr", 1)])
def test_published_numbers_stand_beside_with_source_and_protocol(dataset: str, k: int) -> None:
    parts = [part_of(dataset, "dress/val"), part_of(dataset, "shirt/val")]
    table = comparison_table(compare([], parts, protocol_for(dataset)))
    for row in reported_rows(dataset):
        assert row.system in table
        assert f"{100 * row.metrics[f'recall@{k}']:.2f}" in table
        assert all(0 < value < 1 for value in row.metrics.values())
    assert "survey" in table
    assert "sum, shirt/val" in table


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from("ab"), max_size=3),
            st.sampled_from(("best", "last", "sum", "unit_sum")),
            st.sampled_from((".safetensors", ".pt")),
        ).map(lambda place: Path(*place[0], place[1] + place[2])),
        max_size=6,
        unique=True,
    ),
)
@settings(max_examples=50, deadline=None)
def test_every_checkpoint_has_a_row_of_its_own_name(places: list[Path]) -> None:
    with TemporaryDirectory() as folder:
        paths = [Path(folder).resolve() / place for place in places]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        taken = rows_always()
        names = row_names(["joint/garments", *map(str, paths)], taken)
        assert len({*taken, *names}) == len(taken) + len(names)
        assert names[0] == "joint/garments"
        for path, name in zip(paths, names[1:], strict=True):
            assert str(path).endswith((f"/{name}", f"/{name}{path.suffix}"))
            alone = [each.stem for each in paths].count(path.stem) == 1 and path.stem not in taken
            assert (name == path.stem) is alone
        for path in paths[:1]:
            with pytest.raises(OptionError, match="twice"):
                row_names([str(path), f"{path.parent}/../{path.parent.name}/{path.name}"], taken)


@pytest.mark.parametrize("name", rows_always())
def test_a_row_that_is_always_there_is_not_asked_for(name: str) -> None:
    with pytest.raises(OptionError, match="stands in every comparison"):
        row_names([name], rows_always())


def test_the_rows_that_are_always_there_are_those(comparison: Comparison) -> None:
    assert {row.combiner for row in comparison.rows} >= {*rows_always()}


@pytest.mark.parametrize("chosen", [{"gallery": Gallery.VAL}, {"reference": Reference.KEEP}])
def test_genecis_has_one_way_to_be_measured(chosen: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="galleries of their own"):
        protocol_for("genecis", **chosen)


def test_one_evaluation_as_a_table() -> None:
    protocol = protocol_for("fashioniq")
    parts = [part_of("fashioniq", "dress/val"), part_of("fashioniq", "shirt/val")]
    alone = evaluate(ImageCombiner(), parts, protocol)
    table = evaluation_table(evaluate(SumCombiner(), parts, protocol), [alone])
    assert "60 of 60 queries over 60 images; nothing is missing; mean text weight 0.500" in table
    assert [line.split("|")[1].strip() for line in table.splitlines()[3:]] == [
        "", "-----------", "dress/val", "shirt/val", "mean", "image alone",
    ]  # fmt: skip


def test_markdown_is_aligned_and_escapes_bars() -> None:
    lines = markdown(["a", "R@1"], [["x|y", "1.00"], ["z", "22.00"]]).splitlines()
    assert lines == ["| a   |   R@1 |", "| --- | ----: |", "| x\\|y |  1.00 |", "| z   | 22.00 |"]


def test_short_names() -> None:
    assert short_name("recall_subset@1") == "Rs@1"
    assert short_name("map@5") == "mAP@5"
    assert short_name("mean(recall@5, recall_subset@1)") == "(R@5+Rs@1)/2"


def test_the_chart_is_an_image(comparison: Comparison, tmp_path: Path) -> None:
    plot_comparison(tmp_path / "chart.png", comparison)
    with Image.open(tmp_path / "chart.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 500
    assert [path.name for path in tmp_path.iterdir()] == ["chart.png"]


def test_selection_rules_are_those_of_the_method() -> None:
    fashion = {"recall@10": 0.3, "recall@50": 0.5}
    assert selection_rules("fashioniq")["best"](fashion) == pytest.approx(0.4)
    cirr = {f"recall@{k}": 0.4 for k in (1, 5, 10, 50)} | {f"recall_subset@{k}": 0.1 for k in (1, 2, 3)}
    rules = selection_rules("cirr")
    assert list(rules) == ["best-arithmetic", "best-harmonic", "best-geometric"]
    assert rules["best-arithmetic"](cirr) == pytest.approx((4 * 0.4 + 3 * 0.1) / 7)
    assert rules["best-harmonic"](cirr) == pytest.approx(7 / (4 / 0.4 + 3 / 0.1))
    assert rules["best-geometric"](cirr) == pytest.approx((0.4**4 * 0.1**3) ** (1 / 7))
    assert selection_rules("triplets")["best"]({"recall@1": 0.2, "recall@10": 0.6}) == pytest.approx(0.4)
