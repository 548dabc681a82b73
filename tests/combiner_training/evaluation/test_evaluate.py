"""Evaluation by queries and by dialogues, against sorting names by similarity."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from combiner_service.builtin import ImageCombiner, SlerpCombiner, SumCombiner, TextCombiner
from combiner_service.combiner import Combiner
from combiner_training.captions import Joining, joined
from combiner_training.datasets.base import Dialogue, DialogueTurn, Query, Split
from combiner_training.datasets.load import Dataset, load_splits
from combiner_training.evaluation.evaluate import EvaluationError, evaluate, evaluate_dialogues
from combiner_training.evaluation.protocol import Gallery, Reference, protocol_for
from combiner_training.evaluation.queries import Coverage, evaluation_queries, gallery_of
from combiner_training.evaluation.tables import dialogue_table
from combiner_training.feature_file import FeatureFileError, FeatureFolder, FeatureKind
from tests.combiner_training.evaluation.examples import PALETTE, Vector, by_sorting, split_of, table_of

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
NAMES = tuple("abcdefgh")
TEXTS = ("is red", "is blue.", "")


@st.composite
def splits(draw: st.DrawFn) -> tuple[Split, dict[str, Vector | None], dict[str, Vector | None]]:
    """Small splits with everything awkward: duplicates, images without features, targets and members
    outside."""
    gallery = draw(st.lists(st.sampled_from(NAMES[:6]), min_size=1, max_size=9))
    name = st.sampled_from(NAMES)
    queries = []
    for index in range(draw(st.integers(1, 5))):
        reference = draw(name)
        group = tuple(draw(st.lists(name, max_size=5)))
        queries.append(
            Query(
                f"q{index}",
                reference,
                tuple(draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=2))),
                tuple(draw(st.lists(name, min_size=1, max_size=3, unique=True))),
                (reference, *group) if group else (),
            )
        )
    feature = st.one_of(st.integers(0, len(PALETTE) - 1).map(lambda row: PALETTE[row]), st.none())
    images = {n: draw(feature) for n in NAMES}
    texts: dict[str, Vector | None] = {}
    for query in queries:
        for joining in Joining:
            texts.setdefault(joined(query.texts, joining), draw(feature))
    return split_of(queries, gallery), images, texts


def sums(
    split: Split, images: dict[str, Vector | None], texts: dict[str, Vector | None], joining: Joining
) -> dict[str, Vector]:
    """The element-wise sum by its formula, for the queries that have both parts."""
    vectors = {}
    for query in split.queries:
        image, text = images[query.reference], texts[joined(query.texts, joining)]
        if image is not None and text is not None:
            total = image.astype(np.float64) + text.astype(np.float64)
            vectors[query.id] = (total / math.sqrt(float((total**2).sum()))).astype(np.float32)
    return vectors


@pytest.mark.slow
@given(
    splits(), st.sampled_from(list(Reference)), st.sampled_from(list(Gallery)), st.sampled_from(list(Joining))
)
@settings(max_examples=200, deadline=None)
def test_metrics_are_those_of_sorting_names(
    example: tuple[Split, dict[str, Vector | None], dict[str, Vector | None]],
    reference: Reference,
    gallery: Gallery,
    joining: Joining,
) -> None:
    split, images, texts = example
    protocol = protocol_for("triplets", gallery=gallery, reference=reference, captions=joining)
    part = evaluation_queries(
        split, table_of(FeatureKind.IMAGES, images), table_of(FeatureKind.TEXTS, texts), protocol
    )
    vectors = sums(split, images, texts, joining)
    listed = gallery_of(split, gallery)
    expected = by_sorting(split, images, vectors, keep_reference=reference is Reference.KEEP, gallery=listed)
    assert list(part.ids) == list(expected.ranks)
    counts = part.coverage
    assert counts.queries == len(split.queries)
    assert counts.answered == len(expected.ranks)
    assert counts.gallery + counts.gallery_missing == len(set(listed))
    beyond = sum(all(math.isinf(rank) for rank in ranks) for ranks in expected.ranks.values())
    if reference is Reference.KEEP or all(query.reference not in query.targets for query in split.queries):
        assert counts.target_dropped == 0
        assert counts.target_outside == beyond
    assert counts.target_dropped + counts.target_outside <= beyond
    if not expected.ranks:
        with pytest.raises(EvaluationError, match="no query of val can be answered"):
            evaluate(SumCombiner(), [part], protocol)
        return
    found = evaluate(SumCombiner(), [part], protocol)
    for k in (1, 5, 10, 50):
        assert found.metrics[f"recall@{k}"] == pytest.approx(expected.recall(k))
    targets = {query.id: len(set(query.targets)) for query in split.queries}
    if "map@5" in found.metrics:
        assert found.metrics["map@5"] == pytest.approx(expected.mean_average_precision(5, targets))
    if part.has_groups:
        for k in (1, 2, 3):
            assert found.metrics[f"recall_subset@{k}"] == pytest.approx(expected.recall(k, subset=True))
        headline = (found.metrics["recall@5"] + found.metrics["recall_subset@1"]) / 2
        assert found.metrics["mean(recall@5, recall_subset@1)"] == headline
    assert len(found.text_weights) == len(expected.ranks)


def test_wrong_members_of_groups_and_wordings_that_disagree_are_counted() -> None:
    """Twelve images on a half circle; queries point at the first, third and last of them."""
    angles = np.linspace(0, np.pi / 2, 12)
    names = [f"i{n}" for n in range(12)]
    images = {
        name: np.array([np.cos(a), np.sin(a)], np.float32) for name, a in zip(names, angles, strict=True)
    }
    texts = {f"t{n}": images[f"i{n}"] for n in (0, 11)}
    group = ("i5", "i0", "i1", "i2", "i11")
    queries = [
        Query("1", "i5", ("t0",), ("i0",), group),
        Query("2", "i5", ("t11",), ("i0",), group),
        Query("3", "i4", ("t0",), ("i0",), ("i4", "i0", "i1")),
    ]
    tables = table_of(FeatureKind.IMAGES, dict(images)), table_of(FeatureKind.TEXTS, dict(texts))
    protocol = protocol_for("triplets")
    part = evaluation_queries(split_of(queries, names), *tables, protocol)
    found = evaluate(TextCombiner(), [part], protocol)
    metrics = found.metrics
    assert found.notes == (
        "Rs@K: 3 queries, each ranked in a group of 2 to 4 images",
        "uns@10: 1 wish in several wordings",
    )
    pair = evaluation_queries(split_of([queries[2]], names), *tables, protocol)
    [note] = evaluate(TextCombiner(), [pair], protocol).notes
    assert note.endswith("in a group of 2 images; Rs@2 and Rs@3 are 100 for all of them")
    # The first ten without the reference: i0 to i10, then i11 down to i1, then i0 to i10 again. Wrong: i1 and
    # i2; i11, i2 and i1; i1.
    assert metrics["negatives@10"] == pytest.approx((2 + 3 + 1) / 30)
    # Of the two wordings of one wish the first is answered.
    assert metrics["unsteady@10"] == 1.0
    genecis = evaluate(TextCombiner(), [part], protocol_for("genecis")).metrics
    assert set(genecis) == {f"recall_subset@{k}" for k in (1, 2, 3)}


def four_images() -> dict[str, Vector | None]:
    return {name: PALETTE[index] for index, name in enumerate("abcd")}


def test_what_is_missing_is_counted_and_said() -> None:
    images = four_images() | {"c": None, "e": None}
    texts: dict[str, Vector | None] = {"x": PALETTE[4], "gone": None}
    split = split_of(
        [
            Query("1", "a", ("x",), ("b",), ("a", "b", "e")),
            Query("2", "c", ("x",), ("b",)),
            Query("3", "a", ("gone",), ("b",)),
            Query("4", "a", ("x",), ("c", "e")),
        ],
        ["a", "b", "c", "d", "e"],
    )
    part = evaluation_queries(
        split,
        table_of(FeatureKind.IMAGES, images),
        table_of(FeatureKind.TEXTS, texts),
        protocol_for("triplets"),
    )
    assert part.coverage == Coverage(
        queries=4, answered=1, reference_missing=1, text_missing=1, target_missing=1,
        gallery=3, gallery_missing=2, group_missing=1,
    )  # fmt: skip
    assert part.coverage.text == (
        "1 of 4 queries over 3 images; MISSING: 1 reference missing, 1 text missing, 1 target missing, "
        "2 gallery missing, 1 group missing"
    )
    assert "nothing is missing" in Coverage(queries=1, answered=1, gallery=2).text


def test_a_target_outside_the_gallery_is_a_miss() -> None:
    split = split_of([Query("1", "a", ("x",), ("d",))], ["a", "b"])
    tables = table_of(FeatureKind.IMAGES, four_images()), table_of(FeatureKind.TEXTS, {"x": PALETTE[4]})
    part = evaluation_queries(split, *tables, protocol_for("triplets"))
    assert evaluate(ImageCombiner(), [part], protocol_for("triplets")).metrics["recall@50"] == 0.0
    assert part.coverage.text.endswith("OUT OF REACH: 1 whose targets are not in the gallery")


def test_a_reference_that_is_its_own_target_is_found_only_if_it_is_kept() -> None:
    split = split_of([Query("1", "a", ("x",), ("a",))], ["a", "b"])
    tables = table_of(FeatureKind.IMAGES, four_images()), table_of(FeatureKind.TEXTS, {"x": PALETTE[4]})
    for reference, recall in ((Reference.KEEP, 1.0), (Reference.DROP, 0.0)):
        protocol = protocol_for("triplets", reference=reference)
        part = evaluation_queries(split, *tables, protocol)
        assert evaluate(ImageCombiner(), [part], protocol).metrics["recall@1"] == recall
        assert part.coverage.target_dropped == 1 - recall
        assert ("1 whose only target is the reference" in part.coverage.text) is not part.coverage.complete


def test_categories_are_averaged_plainly() -> None:
    tables = table_of(FeatureKind.IMAGES, four_images()), table_of(FeatureKind.TEXTS, {"x": PALETTE[4]})
    hit = split_of([Query("1", "a", ("x",), ("a",))], ["a", "b"], name="dress/val")
    miss = split_of([Query(str(n), "a", ("x",), ("d",)) for n in range(3)], ["a", "b"], name="shirt/val")
    protocol = protocol_for("fashioniq")
    parts = [evaluation_queries(split, *tables, protocol) for split in (hit, miss)]
    found = evaluate(ImageCombiner(), parts, protocol)
    assert found.metrics["recall@10"] == 0.5
    assert found.parts["dress/val"]["recall@10"] == 1.0
    assert found.coverage.queries == 4
    assert "reference=keep" in found.protocol.text
    assert "gallery=original" in found.protocol.text


def test_withheld_targets_and_wrong_dimensions_are_refused() -> None:
    split = split_of([Query("1", "a", ("x",))], ["a", "b"])
    tables = table_of(FeatureKind.IMAGES, four_images()), table_of(FeatureKind.TEXTS, {"x": PALETTE[4]})
    part = evaluation_queries(split, *tables, protocol_for("cirr"))
    with pytest.raises(EvaluationError, match=r"targets of val are withheld.*cir cirr-submission"):
        evaluate(ImageCombiner(), [part], protocol_for("cirr"))


def test_names_without_a_row_are_refused() -> None:
    split = split_of([Query("1", "a", ("another text",), ("b",))], ["a", "b"])
    tables = table_of(FeatureKind.IMAGES, four_images()), table_of(FeatureKind.TEXTS, {"x": PALETTE[4]})
    with pytest.raises(FeatureFileError, match=r"no features of 'another text'.*extract"):
        evaluation_queries(split, *tables, protocol_for("triplets"))


@pytest.mark.skipif(not DATA.is_dir(), reason="the real annotation is not there")
@pytest.mark.parametrize(
    ("gallery", "sizes"),
    [(Gallery.ORIGINAL, {"dress": 3817, "shirt": 6346, "toptee": 5373}),
     (Gallery.VAL, {"dress": 2628, "shirt": 3089, "toptee": 2902})],
)  # fmt: skip
def test_galleries_of_the_real_fashioniq(gallery: Gallery, sizes: dict[str, int]) -> None:
    parts = load_splits(Dataset.FASHIONIQ, DATA / "fashioniq", "val")
    assert {part.name.split("/")[0]: len(gallery_of(part, gallery)) for part in parts} == sizes
    assert sum(len(part.queries) for part in parts) == 6016


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the real annotation is not there")
def test_the_real_cirr_is_evaluated_as_by_sorting() -> None:
    [split] = load_splits(Dataset.CIRR, DATA / "cirr", "val")
    random = np.random.default_rng(0)
    images = {name: random.standard_normal(16).astype(np.float32) for name in split.gallery}
    names = dict.fromkeys(query.texts[0] for query in split.queries)
    texts = {text: random.standard_normal(16).astype(np.float32) for text in names}
    protocol = protocol_for("cirr")
    part = evaluation_queries(
        split, table_of(FeatureKind.IMAGES, images), table_of(FeatureKind.TEXTS, texts), protocol
    )
    assert (part.coverage.answered, part.coverage.gallery) == (4181, 2297)
    assert ((part.members >= 0).sum(axis=1) == 5).all()
    found = evaluate(SumCombiner(), [part], protocol)
    few = Split("cirr", "val", split.queries[:25], split.gallery, split.paths)
    some = evaluation_queries(
        few, table_of(FeatureKind.IMAGES, images), table_of(FeatureKind.TEXTS, texts), protocol
    )
    vectors = {
        query.id: (total / np.linalg.norm(total)).astype(np.float32)
        for query in few.queries
        for total in [images[query.reference].astype(np.float64) + texts[query.texts[0]]]
    }
    expected = by_sorting(few, images, vectors, keep_reference=False)
    measured = evaluate(SumCombiner(), [some], protocol)
    for k in (1, 5, 10, 50):
        assert measured.metrics[f"recall@{k}"] == pytest.approx(expected.recall(k))
    for k in (1, 2, 3):
        assert measured.metrics[f"recall_subset@{k}"] == pytest.approx(expected.recall(k, subset=True))
        # Random features find one of five in k of five cases.
        assert found.metrics[f"recall_subset@{k}"] == pytest.approx(k / 5, abs=0.05)


DIALOGUE_NAMES = [f"i{n}" for n in range(12)]


def folder_of(*, without: str = "") -> FeatureFolder:
    random = np.random.default_rng(3)
    images: dict[str, Vector | None] = {
        name: random.standard_normal(6).astype(np.float32) * 4 for name in DIALOGUE_NAMES
    }
    texts: dict[str, Vector | None] = {
        f"t{n}": random.standard_normal(6).astype(np.float32) * 4 for n in range(5)
    }
    return FeatureFolder(
        table_of(FeatureKind.IMAGES, images | ({without: None} if without else {})),
        table_of(FeatureKind.TEXTS, texts),
    )


def talk(name: str, reference: str, *asked: tuple[str, str]) -> Dialogue:
    return Dialogue(name, reference, tuple(DialogueTurn(text, (target,)) for text, target in asked))


def as_searched(
    combiner: Combiner, dialogue: Dialogue, folder: FeatureFolder, image_length: float
) -> list[NDArray[np.float32]]:
    """The query after each turn, each composed anew from the turns so far."""

    def feature(table: object, name: str) -> Vector:
        opened = getattr(folder, str(table))
        return np.array(opened.take(opened.rows([name]))[0])

    queries: list[Vector] = []
    reference = feature("images", dialogue.reference) if dialogue.reference else None
    length = image_length if reference is None else float(np.linalg.norm(reference))
    for turn in dialogue.turns:
        text = feature("texts", turn.text)
        if reference is None:
            query = text / np.linalg.norm(text)
        else:
            query = combiner.combine(reference[None], text[None]).query_vectors[0]
        reference = (query * length).astype(np.float32)
        queries.append(query)
    return queries


@pytest.mark.parametrize("combiner", [SumCombiner(), SlerpCombiner()])
def test_each_turn_of_a_dialogue_goes_on_from_the_query_before(combiner: Combiner) -> None:
    folder = folder_of()
    talks = [
        talk("a", "i0", ("t0", "i3"), ("t1", "i4"), ("t2", "i5")),
        talk("b", "i1", ("t3", "i6")),
        talk("c", "i2", ("t4", "i7"), ("t0", "i8")),
        talk("d", "", ("t2", "i1"), ("t3", "i8"), ("t0", "i2")),
        talk("e", "", ("t1", "i6")),
    ]
    found = evaluate_dialogues(combiner, talks, DIALOGUE_NAMES, folder)
    assert (found.turns, found.answered, found.dialogues) == ((5, 3, 2), 5, 5)
    gallery = {
        name: folder.images.take(folder.images.rows([name]))[0].astype(np.float64) for name in DIALOGUE_NAMES
    }
    image_length = float(np.mean([np.linalg.norm(row) for row in gallery.values()]))
    hits: dict[int, list[list[bool]]] = {k: [[], [], []] for k in found.success}
    for one in talks:
        for at, vector in enumerate(as_searched(combiner, one, folder, image_length)):
            scores = {name: float(vector @ row / np.linalg.norm(row)) for name, row in gallery.items()}
            order = sorted(
                (name for name in DIALOGUE_NAMES if name != one.reference), key=lambda name: -scores[name]
            )
            for k, by_turn in hits.items():
                by_turn[at].append(order.index(one.turns[at].targets[0]) < k)
    assert found.success == {
        k: tuple(float(np.mean(part)) for part in by_turn) for k, by_turn in hits.items()
    }


def test_dialogues_without_features_are_counted_out_and_unknown_names_refused() -> None:
    talks = [talk("a", "i0", ("t0", "i3")), talk("b", "i1", ("t0", "i3"))]
    found = evaluate_dialogues(SumCombiner(), talks, DIALOGUE_NAMES, folder_of(without="i0"))
    assert (found.answered, found.dialogues) == (1, 2)
    assert "1 of 2 dialogues answered (1 with turn 1)" in dialogue_table([found])
    assert found.document()["success"] == {f"success@{k}": list(v) for k, v in found.success.items()}
    with pytest.raises(EvaluationError, match="none of 2 dialogues"):
        evaluate_dialogues(SumCombiner(), talks, DIALOGUE_NAMES, folder_of(without="i3"))
    with pytest.raises(FeatureFileError, match="no features of 'never'"):
        evaluate_dialogues(SumCombiner(), [talk("a", "i0", ("never", "i3"))], DIALOGUE_NAMES, folder_of())
