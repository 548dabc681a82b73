"""The network as CPUs compute it: the paper's formulae, narrow weights, and the measure between them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from combiner_service import cpu_network, openvino_layers
from combiner_service.cpu_network import CpuNetwork, smallest_cosine
from combiner_service.errors import InvalidCheckpointError
from combiner_service.network_spec import NetworkSizes, WeightType
from tests.combiner_service.examples import SMALL, combine_by_formulae, features_of, weights_of

MEDIUM = NetworkSizes(feature_dim=64, projection_dim=128, hidden_dim=192)
sizes_strategy = st.builds(NetworkSizes, st.integers(1, 48), st.integers(1, 64), st.integers(1, 96))
narrow_types = pytest.mark.parametrize("weight_type", [WeightType.BFLOAT16, WeightType.INT8])


@pytest.fixture(scope="module", params=["numpy", "openvino"])
def by(request: pytest.FixtureRequest) -> Iterator[str]:
    """Float32 networks of any size by each of the two ways."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_network, "SMALL_BYTES", {"numpy": 1 << 30, "openvino": 0}[request.param])
        yield request.param


@pytest.mark.slow
@pytest.mark.usefixtures("by")
@given(sizes_strategy, st.integers(0, 2**16), st.integers(1, 17))
@settings(max_examples=60, deadline=None)
def test_output_equals_the_formulae_evaluated_in_numpy(sizes: NetworkSizes, seed: int, count: int) -> None:
    weights = weights_of(sizes, seed)
    image, text = features_of(count, sizes.feature_dim, seed), features_of(count, sizes.feature_dim, seed + 1)

    query, used = CpuNetwork(weights)(image, text)

    assert query.dtype == used.dtype == np.float32
    wanted, wanted_weight = combine_by_formulae(weights, image, text)
    np.testing.assert_allclose(query, wanted, atol=1e-5)
    np.testing.assert_allclose(
        used, wanted_weight[:, 0] if wanted_weight.ndim > 1 else wanted_weight, atol=1e-5
    )


@narrow_types
@pytest.mark.parametrize("sizes", [SMALL, MEDIUM, NetworkSizes(7, 33, 130)])
@pytest.mark.parametrize("rows", [1, 5, 70])
def test_narrow_weights_answer_within_the_stated_bound(
    sizes: NetworkSizes, weight_type: WeightType, rows: int
) -> None:
    weights = weights_of(sizes)
    network = CpuNetwork(weights, weight_type=weight_type)
    image, text = features_of(rows, sizes.feature_dim), features_of(rows, sizes.feature_dim, seed=1)
    query, used = network(image, text)
    wanted, wanted_weight = combine_by_formulae(weights, image, text)
    assert (query * wanted).sum(axis=1).min() > 0.999
    np.testing.assert_allclose(used, wanted_weight, atol=0.03)


def test_int8_keeps_rows_of_very_different_sizes_apart() -> None:
    weights = weights_of(MEDIUM)
    for scale, row in ((1e-4, 0), (1e4, 1), (0, 2)):
        weights["text_projection_layer.weight"][row] *= scale
        weights["text_projection_layer.bias"][row] *= scale
    image, text = features_of(20, 64), features_of(20, 64, seed=1)
    query, _ = CpuNetwork(weights, weight_type=WeightType.INT8)(image, text)
    wanted, _ = combine_by_formulae(weights, image, text)
    assert (query * wanted).sum(axis=1).min() > 0.999


@pytest.mark.parametrize("weight_type", list(WeightType))
def test_a_row_depends_on_the_same_row_alone(weight_type: WeightType) -> None:
    network = CpuNetwork(weights_of(MEDIUM), weight_type=weight_type)
    image, text = features_of(9, 64), features_of(9, 64, seed=1)
    alone, _ = network(image[:1], text[:1])
    image[1:] *= 1000
    beside, _ = network(image, text)
    # Passes of other sizes round differently, within the type's own steps.
    assert (alone[0] * beside[0]).sum() > (0.9999 if weight_type is WeightType.FLOAT32 else 0.999)


@pytest.mark.usefixtures("by")
def test_passes_of_several_threads_do_not_mix() -> None:
    network = CpuNetwork(weights_of(MEDIUM), threads=2)
    counts = [1 + n % 5 if n % 4 else 60 + n for n in range(40)]
    pairs = [(features_of(count, 64, n), features_of(count, 64, n + 500)) for n, count in enumerate(counts)]
    wanted = [combine_by_formulae(weights_of(MEDIUM), *pair)[0] for pair in pairs]
    with ThreadPoolExecutor(8) as pool:
        for (query, _), expected in zip(
            pool.map(lambda pair: network(pair[0], pair[1]), pairs), wanted, strict=True
        ):
            np.testing.assert_allclose(query, expected, atol=1e-5)


@narrow_types
def test_the_measured_cosine_is_near_one_and_another_network_is_far_away(weight_type: WeightType) -> None:
    exact = CpuNetwork(weights_of(MEDIUM))
    assert smallest_cosine(exact, exact) == pytest.approx(1, abs=1e-6)
    assert 0.999 < smallest_cosine(exact, CpuNetwork(weights_of(MEDIUM), weight_type=weight_type)) < 1 + 1e-6
    assert smallest_cosine(exact, CpuNetwork(weights_of(MEDIUM, seed=1))) < 0.99


def test_small_networks_in_float32_are_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    monkeypatch.setattr(openvino_layers, "OpenVinoLayers", lambda layers, *_, **__: built.append(len(layers)))
    weights = weights_of(MEDIUM)
    size = sum(array.nbytes for array in weights.values())
    monkeypatch.setattr(cpu_network, "SMALL_BYTES", size)
    CpuNetwork(weights)
    assert not built
    CpuNetwork(weights, weight_type=WeightType.BFLOAT16)
    assert built == [1, 1, 2, 2]
    monkeypatch.setattr(cpu_network, "SMALL_BYTES", size - 1)
    CpuNetwork(weights)
    assert len(built) == 8


def test_weights_of_something_else_are_refused() -> None:
    weights = weights_of()
    del weights["output_layer.bias"]
    with pytest.raises(InvalidCheckpointError, match=r"missing tensors: output_layer\.bias"):
        CpuNetwork(weights)
