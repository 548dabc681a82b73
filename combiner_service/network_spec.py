"""Sizes of a Combiner network, and the types that its weights are held in. Pure, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from combiner_service.errors import InvalidCheckpointError

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NetworkSizes:
    """Widths of the layers. The published networks have projection 2560 and hidden 5120 for every CLIP."""

    feature_dim: int
    projection_dim: int
    hidden_dim: int

    def shapes(self) -> dict[str, Shape]:
        """Name and shape of every tensor in the state dict of a network of these sizes."""
        d, p, h = self.feature_dim, self.projection_dim, self.hidden_dim
        return {
            "text_projection_layer.weight": (p, d),
            "text_projection_layer.bias": (p,),
            "image_projection_layer.weight": (p, d),
            "image_projection_layer.bias": (p,),
            "combiner_layer.weight": (h, 2 * p),
            "combiner_layer.bias": (h,),
            "output_layer.weight": (d, h),
            "output_layer.bias": (d,),
            "dynamic_scalar.0.weight": (h, 2 * p),
            "dynamic_scalar.0.bias": (h,),
            "dynamic_scalar.3.weight": (1, h),
            "dynamic_scalar.3.bias": (1,),
        }


_NAMES = tuple(NetworkSizes(1, 1, 1).shapes())


def sizes_from_shapes(shapes: Mapping[str, Shape]) -> NetworkSizes:
    """Derive the sizes from the shapes of a state dict, and check every tensor against them.

    Raises:
        InvalidCheckpointError: Names are missing or unexpected, or shapes do not fit together.
    """
    missing = [name for name in _NAMES if name not in shapes]
    unexpected = sorted(name for name in shapes if name not in _NAMES)
    if missing or unexpected:
        parts = []
        if missing:
            parts.append(f"missing tensors: {', '.join(missing)}")
        if unexpected:
            parts.append(f"unexpected tensors: {_shorten(unexpected)}")
        raise InvalidCheckpointError(f"not the state dict of a Combiner network; {'; '.join(parts)}")
    # The two weights that fix all three widths; every other tensor must agree with them.
    projection, hidden = shapes["text_projection_layer.weight"], shapes["output_layer.weight"]
    if len(projection) != 2 or len(hidden) != 2 or 0 in projection or 0 in hidden:
        raise InvalidCheckpointError(
            f"text_projection_layer.weight has the shape {projection} and output_layer.weight {hidden}; "
            "expected (projection, feature) and (feature, hidden)"
        )
    sizes = NetworkSizes(feature_dim=projection[1], projection_dim=projection[0], hidden_dim=hidden[1])
    for name, expected in sizes.shapes().items():
        if tuple(shapes[name]) != expected:
            raise InvalidCheckpointError(
                f"{name} has the shape {tuple(shapes[name])}, expected {expected} next to a "
                f"text_projection_layer.weight of {projection} and an output_layer.weight of {hidden}"
            )
    return sizes


def _shorten(names: list[str]) -> str:
    shown = ", ".join(names[:6])
    return shown if len(names) <= 6 else f"{shown} and {len(names) - 6} more"


class WeightType(StrEnum):
    """float32 is exact; the narrow ones are checked against it (`network_loading.py`)."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
