"""Batches of an epoch, and references that continue dialogues."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from combiner_service.network_spec import NetworkSizes
from combiner_service.torch_network import CombinerNetwork
from combiner_training.data import training_data
from combiner_training.datasets.base import Query
from combiner_training.dialogue_references import DialogueReferences
from combiner_training.evaluation.ranking import NONE
from combiner_training.feature_file import FeatureFolder, FeatureKind
from combiner_training.options import TrainingError
from tests.combiner_training.evaluation.examples import PALETTE, split_of, table_of
from tests.combiner_training.task import ready, small_task

pytestmark = pytest.mark.torch


def folder_of(images: str, *texts: str, without: str = "") -> FeatureFolder:
    pictures = {name: None if name in without else PALETTE[i % 7] + i for i, name in enumerate(images)}
    return FeatureFolder(
        table_of(FeatureKind.IMAGES, pictures),
        table_of(FeatureKind.TEXTS, {text: PALETTE[i % 7] - i for i, text in enumerate(texts)}),
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


def network_of(dimension: int) -> CombinerNetwork:
    torch.manual_seed(3)
    return CombinerNetwork(NetworkSizes(dimension, 8, 8)).train()


def test_every_reference_is_what_a_triplet_that_leads_there_came_to() -> None:
    data, _ = ready()
    network = network_of(data.features.dimension)
    dialogues = DialogueReferences(data)
    leading = [
        {j for j, targets in enumerate(data.targets) if reference in targets[targets != NONE]}
        for reference in data.references
    ]
    assert any(leading)
    random = np.random.default_rng(5)
    references = dialogues.references(network, 1.0, random)
    assert network.training
    images = data.features.images.take(data.references)
    lengths = np.linalg.norm(images, axis=1)
    texts = data.features.texts.take(data.texts[:, 0])
    network.eval()
    with torch.inference_mode():
        once = network(torch.from_numpy(images), torch.from_numpy(texts))[0].numpy()
    seen = 0
    for index, before in enumerate(leading):
        if not before:
            assert np.isnan(references[index]).all()
            continue
        # One of those that lead there, composed from its image, or from what led to it.
        assert np.isclose(np.linalg.norm(references[index]), lengths, rtol=1e-4).any()
        seen += any(
            np.allclose(references[index], once[j] * lengths[j], rtol=1e-3, atol=1e-4) for j in before
        )
    if data.texts.shape[1] == 1:
        assert seen > 0


def test_the_share_that_continues_is_composed_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = ready()
    network = network_of(data.features.dimension)
    dialogues = DialogueReferences(data)
    rows: list[int] = []
    forward = CombinerNetwork.forward

    def counted(self: CombinerNetwork, image: torch.Tensor, *more: torch.Tensor) -> object:
        rows.append(len(image))
        return forward(self, image, *more)

    monkeypatch.setattr(CombinerNetwork, "forward", counted)
    for share in (0.0, 0.3, 1.0):
        rows.clear()
        references = dialogues.references(network, share, np.random.default_rng(2))
        known = int(np.isfinite(references).all(axis=1).sum())
        assert known == int(np.isfinite(references).any(axis=1).sum())
        assert known <= sum(rows) <= 2 * known
        assert abs(known / len(references) - share) < 0.1


def test_a_share_of_the_batch_continues_and_the_rest_begins() -> None:
    data, _ = ready()
    size = 8
    marked = np.full((len(data.ids), data.features.dimension), 7.0, np.float32)
    marked[::2] = np.nan
    for batch in data.batches(np.random.default_rng(1), size, references=marked):
        replaced = (batch.image == 7.0).all(axis=1)
        unknown = [data.ids.index(triplet) % 2 == 0 for triplet in batch.ids]
        assert (replaced != np.array(unknown)).all()


def test_the_right_answers_of_others_are_found_in_a_batch() -> None:
    features = folder_of("abcdefgh", "x")
    random = np.random.default_rng(4)
    queries = [
        Query(
            str(n), "a", ("x",), tuple(random.choice(list("bcdefgh"), random.integers(1, 5), replace=False))
        )
        for n in range(200)
    ]
    data = training_data([split_of(queries, "abcdefgh")], features)
    matrix = features.images.matrix
    [batch] = data.batches(np.random.default_rng(0), 200, with_right_answers=True)
    drawn = [int((matrix == row).all(axis=1).argmax()) for row in batch.target]
    expected = {
        (i, j)
        for i, triplet in enumerate(batch.ids)
        for j, row in enumerate(drawn)
        if i != j and row in data.targets[data.ids.index(triplet)]
    }
    assert {tuple(pair) for pair in batch.right.tolist()} == expected
    assert len(batch.right) == len(expected)
    [without] = data.batches(np.random.default_rng(0), 200)
    assert without.right.shape == (0, 2)


def test_further_candidates_are_targets_that_the_batch_does_not_have() -> None:
    train, _, features = small_task()
    data = training_data([train], features)
    targets = features.images.take(np.unique(data.targets[data.targets != NONE]))
    for wanted in (5, 10_000):
        for batch in data.batches(np.random.default_rng(1), 32, with_right_answers=True, candidates=wanted):
            own, more = np.unique(batch.target[:32], axis=0), batch.target[32:]
            assert len(more) == min(wanted, len(targets) - len(own))
            together = np.concatenate([own, more])
            assert len(np.unique(together, axis=0)) == len(together)
            assert all((row == targets).all(axis=1).any() for row in more)
            for triplet, place in batch.right.tolist():
                right = data.targets[data.ids.index(batch.ids[triplet])]
                assert (features.images.take(right[right != NONE]) == batch.target[place]).all(axis=1).any()
