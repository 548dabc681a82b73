import numpy as np
import pytest

from combiner_service.datasets.split import Query
from combiner_service.feature_files.folder import FeatureFolder
from combiner_service.feature_files.header import Kind
from combiner_service.training.data import training_data
from combiner_service.training.errors import TrainingError
from tests.combiner_service.evaluation.examples import PALETTE, split_of, table_of
from tests.combiner_service.training.task import small_task


def folder_of(images: str, *texts: str, without: str = "") -> FeatureFolder:
    pictures = {name: None if name in without else PALETTE[i % 7] + i for i, name in enumerate(images)}
    return FeatureFolder(
        table_of(Kind.IMAGES, pictures),
        table_of(Kind.TEXTS, {text: PALETTE[i % 7] - i for i, text in enumerate(texts)}),
    )


def test_an_epoch_has_every_triplet_once_but_for_the_last_batch() -> None:
    train, _, features = small_task()
    data = training_data([train], features)
    batches = list(data.batches(np.random.default_rng(1), 32))
    ids = [triplet for batch in batches for triplet in batch.ids]
    assert [len(batch.ids) for batch in batches] == [32] * (300 // 32)
    assert len(set(ids)) == len(ids)
    assert ids != sorted(ids, key=data.ids.index)
    by_id = {query.id: query for query in train.queries}
    for batch in batches:
        for row, name in enumerate(batch.ids):
            query = by_id[name]
            for part, table, key in (
                (batch.image, features.images, query.reference),
                (batch.text, features.texts, query.texts[0]),
                (batch.target, features.images, query.targets[0]),
            ):
                np.testing.assert_array_equal(part[row], table.matrix[table.header.names.index(key)])


def test_captions_and_targets_are_drawn_evenly_and_anew_each_epoch() -> None:
    texts = ("One and two", "Two and one", "One", "Two")
    features = folder_of("abc", *texts)
    split = split_of(
        [Query(str(n), "a", ("one.", "two"), ("b", "c")) for n in range(4000)], "abc", "fashioniq"
    )
    [batch] = training_data([split], features).batches(np.random.default_rng(0), 4000)
    for table, part, expected in ((features.texts, batch.text, 0.25), (features.images, batch.target, 0.5)):
        drawn, counts = np.unique(part, axis=0, return_counts=True)
        assert len(drawn) == round(1 / expected)
        np.testing.assert_allclose(counts / 4000, expected, atol=0.03)
        assert all(any((row == own).all() for own in table.matrix) for row in drawn)
    [other] = training_data([split], features).batches(np.random.default_rng(1), 4000)
    assert (other.text != batch.text).any()


def test_what_has_no_features_is_left_out_and_counted() -> None:
    features = folder_of("abcd", "x", without="d")
    queries = [
        Query("whole", "a", ("x",), ("b",)),
        Query("no reference", "d", ("x",), ("b",)),
        Query("no target's features", "a", ("x",), ("d",)),
        Query("one of two", "a", ("x",), ("d", "c")),
        Query("withheld", "a", ("x",)),
    ]
    data = training_data([split_of(queries, "abcd")], features)
    assert data.ids == ("whole", "one of two")
    assert data.text == (
        "triplets val: 2 triplets; LEFT OUT: 1 without a target, 1 whose reference has no features, "
        "1 whose targets have no features"
    )
    [batch] = data.batches(np.random.default_rng(0), 2)
    c = features.images.matrix[2]
    np.testing.assert_array_equal(batch.target[batch.ids.index("one of two")], c)
    with pytest.raises(TrainingError, match="no triplet to train on, of 1"):
        training_data([split_of(queries[1:2], "abcd")], features)


def test_the_digest_tells_data_apart() -> None:
    features = folder_of("abc", "x")
    one, same, other = (
        training_data([split_of([Query(name, "a", ("x",), (target,))], "abc")], features).digest()
        for name, target in (("1", "b"), ("1", "b"), ("1", "c"))
    )
    assert one == same != other
