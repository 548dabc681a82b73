import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from combiner_service.network import CombinerNetwork
from combiner_service.network_sizes import NetworkSizes
from combiner_service.training.loss import batch_classification_loss
from tests.combiner_service.examples import SMALL, evaluate, features_of, weights_of


def loss_by_the_facts(queries: np.ndarray, targets: np.ndarray) -> float:
    """logits = 100 * queries . normalise(targets)^T; cross entropy with the diagonal, query to target
    only."""
    normalised = targets / np.sqrt((targets**2).sum(axis=1, keepdims=True))
    logits = 100 * queries @ normalised.T
    largest = logits.max(axis=1, keepdims=True)
    log_sums = largest[:, 0] + np.log(np.exp(logits - largest).sum(axis=1))
    return float(np.mean(log_sums - np.diag(logits)))


@given(st.integers(2, 12), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_loss_is_that_of_the_method(count: int, seed: int) -> None:
    weights = weights_of(seed=seed)
    image, text, target = (features_of(count, seed=seed + shift) for shift in range(3))
    queries, _ = CombinerNetwork.from_weights(weights)(torch.from_numpy(image), torch.from_numpy(text))
    found = batch_classification_loss(queries, torch.from_numpy(target)).item()
    expected_queries, _ = evaluate(weights, image, text)
    expected = loss_by_the_facts(expected_queries, target.astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_loss_is_not_the_symmetric_one() -> None:
    queries = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1]]), dim=-1)
    targets = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    found = batch_classification_loss(queries, targets).item()
    assert (
        found == np.float32(loss_by_the_facts(queries.numpy(), targets.numpy()))
        or abs(found - loss_by_the_facts(queries.numpy(), targets.numpy())) < 1e-4
    )
    swapped = batch_classification_loss(torch.nn.functional.normalize(targets, dim=-1), queries).item()
    assert abs(found - swapped) > 1


def test_the_gradient_points_where_finite_differences_of_numpy_do() -> None:
    weights = {name: tensor.double() for name, tensor in weights_of().items()}
    image, text, target = (features_of(6, seed=shift).astype(np.float64) * 0.1 for shift in range(3))
    network = CombinerNetwork(
        NetworkSizes(**{f: getattr(SMALL, f) for f in SMALL.__dataclass_fields__})
    ).double()
    network.load_state_dict(weights)
    network.eval()
    queries, _ = network(torch.from_numpy(image), torch.from_numpy(text))
    batch_classification_loss(queries, torch.from_numpy(target)).backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    random = np.random.default_rng(0)
    direction = {
        name: torch.from_numpy(random.standard_normal(tensor.shape)) for name, tensor in weights.items()
    }
    ahead = 0.0
    for name, gradient in gradients.items():
        assert gradient is not None
        ahead += float((gradient * direction[name]).sum())

    def at(step: float) -> float:
        moved = {name: tensor + step * direction[name] for name, tensor in weights.items()}
        return loss_by_the_facts(evaluate(moved, image, text)[0], target)

    step = 1e-6
    np.testing.assert_allclose(ahead, (at(step) - at(-step)) / (2 * step), rtol=1e-5)
