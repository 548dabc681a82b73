"""The trunk's weights as they are taken over, and the head that joins it to the tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from embedder_service.model.trunk import EfficientNetLite0, join_trunk
from garments.vocabulary import COLOURS
from scripts.small_clip.trunk import _EPSILON, KINDS, Head, Seen, _names, mean_of, plain, read_trunk, train

pytestmark = pytest.mark.torch


def published() -> dict[str, torch.Tensor]:
    """Weights by the published names, with values of their own."""
    torch.manual_seed(3)
    shapes = {name: value.shape for name, value in EfficientNetLite0().state_dict().items()}
    state = {"_fc.weight": torch.zeros(1000, 1280)}
    for name, convolution, norm in _names(EfficientNetLite0()):
        shape = shapes[f"{name}.weight"]
        state[f"{convolution}.weight"] = torch.randn(shape) * 0.1
        for part in ("weight", "running_var"):
            state[f"{norm}.{part}"] = torch.rand(shape[0]) + 0.5
        for part in ("bias", "running_mean"):
            state[f"{norm}.{part}"] = torch.randn(shape[0]) * 0.1
    return state


def test_batch_normalisation_becomes_part_of_the_convolutions(tmp_path: Path) -> None:
    held = published()
    torch.save(held, tmp_path / "lite0.pth")
    state = read_trunk(tmp_path / "lite0.pth")
    trunk = EfficientNetLite0()
    assert trunk.state_dict().keys() == state.keys()
    trunk.load_state_dict({name: value.float() for name, value in state.items()})
    values = torch.randn(1, 32, 9, 9)
    norm = "_blocks.0._bn1"
    expected = functional.batch_norm(
        functional.conv2d(values, held["_blocks.0._depthwise_conv.weight"], padding=1, groups=32),
        held[f"{norm}.running_mean"],
        held[f"{norm}.running_var"],
        held[f"{norm}.weight"],
        held[f"{norm}.bias"],
        eps=_EPSILON,
    ).clamp(0, 6)
    first: Any = trunk.blocks[0]
    assert torch.allclose(first.depthwise(values), expected, atol=3e-3)


def seen() -> Seen:
    torch.manual_seed(4)
    return Seen(
        torch.randn(2, 40, 12),
        torch.arange(40) % len(KINDS),
        torch.arange(40) % (len(COLOURS) + 1) - 1,
        torch.randn(30, 12),
    )


class Tower(torch.nn.Module):
    image_size = 32

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean(dim=(2, 3))


def test_a_head_in_the_model_gives_what_it_gave_in_training_and_several_give_their_mean() -> None:
    torch.manual_seed(5)
    joined = join_trunk(Tower(), 3, {"name": "efficientnet-lite0", "hidden": 10}).eval()
    pixels = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        features = torch.cat([pixels.mean(dim=(2, 3)), joined.trunk(pixels)], dim=1)
        known = Seen(features.clone()[None], torch.zeros(4), torch.zeros(4), features.clone())
        heads = [Head(known, 3, 5).eval() for _ in range(2)]
        for head in heads:
            torch.nn.init.normal_(head.correction.weight)
        state = mean_of([head.folded(head.state_dict()) for head in heads])
        joined.load_state_dict(state, strict=False)
        expected = torch.stack([head(features) for head in heads]).mean(dim=0)
        assert torch.allclose(joined(pixels), expected, atol=1e-4)


def test_photos_come_near_their_texts_and_garments_stay() -> None:
    data = seen()
    torch.manual_seed(6)
    head = Head(data, 8, 16)

    def units(texts: object) -> torch.Tensor:
        count = len(list(texts))  # type: ignore[call-overload]
        generator = torch.Generator().manual_seed(count)
        return functional.normalize(torch.randn(count, 8, generator=generator), dim=-1)

    before = head.eval()(data.views[0]).detach()
    head.load_state_dict(train(head.train(), data, units, steps=60, rate=1e-2, seed=1))
    after = head.eval()(data.views[0]).detach()
    names = units(KINDS)[data.kinds]
    near = [functional.cosine_similarity(images, names).mean() for images in (before, after)]
    assert near[1] > near[0] + 0.05
    kept = functional.cosine_similarity(head(data.garments), data.garments[:, :8])
    assert kept.mean() > 0.9


def test_plain_colours_are_of_one_colour_each_and_reach_from_black_to_white() -> None:
    colours = plain(3)
    assert colours.shape == (216, 3, 3, 3)
    assert torch.equal(colours, colours[:, :, :1, :1].expand_as(colours))
    assert len(set(map(tuple, colours[:, :, 0, 0].tolist()))) == 216
    assert colours[0].max() == 0
    assert colours[-1].min() == 1
