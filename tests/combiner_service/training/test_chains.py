"""References that an earlier turn came to: only where one leads there, scaled as serving scales them."""

from __future__ import annotations

import numpy as np
import torch

from combiner_service.evaluation.ranking import NONE
from combiner_service.network import CombinerNetwork
from combiner_service.network_sizes import NetworkSizes
from combiner_service.training.chains import Chains
from tests.combiner_service.training.task import ready


def network_of(dimension: int) -> CombinerNetwork:
    torch.manual_seed(3)
    return CombinerNetwork(NetworkSizes(dimension, 8, 8)).train()


def test_every_reference_is_what_a_triplet_that_leads_there_came_to() -> None:
    data, _ = ready()
    network = network_of(data.features.dimension)
    chains = Chains(data)
    leading = [
        {j for j, targets in enumerate(data.targets) if reference in targets[targets != NONE]}
        for reference in data.references
    ]
    assert 0 < chains.share <= 1
    assert chains.share == np.mean([bool(each) for each in leading])
    random = np.random.default_rng(5)
    references = chains.references(network, random)
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
        # One of those that lead there, composed from its picture, or from what led to it.
        assert np.isclose(np.linalg.norm(references[index]), lengths, rtol=1e-4).any()
        seen += any(
            np.allclose(references[index], once[j] * lengths[j], rtol=1e-3, atol=1e-4) for j in before
        )
    if data.texts.shape[1] == 1:
        assert seen > 0


def test_a_share_of_the_batch_continues_and_the_rest_begins() -> None:
    data, _ = ready()
    size = 8
    marked = np.full((len(data.ids), data.features.dimension), 7.0, np.float32)
    marked[::2] = np.nan
    for share, expected in ((0.0, 0), (1.0, None)):
        for batch in data.batches(np.random.default_rng(1), size, continued=share, references=marked):
            replaced = (batch.image == 7.0).all(axis=1)
            unknown = [data.ids.index(triplet) % 2 == 0 for triplet in batch.ids]
            if expected is not None:
                assert replaced.sum() == expected
            else:
                assert (replaced != np.array(unknown)).all()
