import pytest
import torch
from torch import nn

from combiner_service.reduced_linear import Bfloat16Linear, Int8Linear

both = pytest.mark.parametrize("narrow", [Bfloat16Linear, Int8Linear])


def linear_of(inputs: int, outputs: int, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs)


@both
@pytest.mark.parametrize("rows", [1, 3, 63, 64, 65])
@pytest.mark.parametrize(("inputs", "outputs"), [(640, 64), (64, 192), (128, 256)])
def test_products_are_those_of_float32_to_a_hundredth(
    narrow: type[Bfloat16Linear | Int8Linear], rows: int, inputs: int, outputs: int
) -> None:
    exact = linear_of(inputs, outputs)
    features = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(rows))
    with torch.inference_mode():
        wanted, got = exact(features), narrow(exact)(features)
    assert got.dtype == torch.float32
    assert got.shape == wanted.shape
    assert float((got - wanted).norm() / wanted.norm()) < 0.01


def test_int8_keeps_rows_of_very_different_sizes_apart() -> None:
    exact = linear_of(64, 64)
    with torch.no_grad():
        exact.weight[0] *= 1e-4
        exact.weight[1] *= 1e4
        exact.weight[2] = 0
        exact.bias.zero_()
    features = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted, got = exact(features), Int8Linear(exact)(features)
    for row in range(2):
        assert float((got[:, row] - wanted[:, row]).norm() / wanted[:, row].norm()) < 0.02
    assert (got[:, 2] == 0).all()


@pytest.mark.parametrize(("inputs", "outputs"), [(640, 33), (40, 64), (7, 5), (8, 12)])
def test_int8_refuses_sizes_that_its_product_would_read_beyond(inputs: int, outputs: int) -> None:
    layer = linear_of(inputs, outputs)
    assert not Int8Linear.takes(layer)
    with pytest.raises(ValueError, match="does not fit int8 blocks"):
        Int8Linear(layer)


@pytest.mark.parametrize(("inputs", "outputs"), [(640, 33), (7, 5)])
def test_bfloat16_takes_any_size(inputs: int, outputs: int) -> None:
    exact = linear_of(inputs, outputs)
    features = torch.randn(5, inputs, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        wanted, got = exact(features), Bfloat16Linear(exact)(features)
    assert float((got - wanted).norm() / wanted.norm()) < 0.01


def test_weights_take_half_and_a_quarter_of_the_memory() -> None:
    exact = linear_of(640, 64)
    bytes_of = {t: t(exact).weight.nbytes for t in (Bfloat16Linear, Int8Linear)}
    assert bytes_of[Bfloat16Linear] * 2 == bytes_of[Int8Linear] * 4 == exact.weight.nbytes
