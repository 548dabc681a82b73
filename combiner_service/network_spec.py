"""Sizes of networks, Combiners and phi, and the types that weights are held in. Pure, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class PhiSizes:
    """Widths of the layers of phi, which turns an image's features into a word embedding (SEARLE, LinCIR)."""

    feature_dim: int
    hidden_dim: int
    token_width: int

    def shapes(self) -> dict[str, Shape]:
        """Name and shape of every tensor in the state dict of a network of these sizes."""
        d, h, w = self.feature_dim, self.hidden_dim, self.token_width
        return {
            "layers.0.weight": (h, d),
            "layers.0.bias": (h,),
            "layers.3.weight": (h, h),
            "layers.3.bias": (h,),
            "layers.6.weight": (w, h),
            "layers.6.bias": (w,),
        }


_NAMES = tuple(NetworkSizes(1, 1, 1).shapes())
_PHI_NAMES = tuple(PhiSizes(1, 1, 1).shapes())


def any_sizes(shapes: Mapping[str, Shape]) -> NetworkSizes | PhiSizes:
    """Derive the sizes of either network from the shapes of a state dict.

    Raises:
        InvalidCheckpointError: As for `sizes_from_shapes` and `phi_sizes`.
    """
    is_phi = any(name in shapes for name in _PHI_NAMES)
    return phi_sizes(shapes) if is_phi else sizes_from_shapes(shapes)


def phi_sizes(shapes: Mapping[str, Shape]) -> PhiSizes:
    """Derive the sizes of phi, and check every tensor against them.

    Raises:
        InvalidCheckpointError: Names are missing or unexpected, or shapes do not fit together.
    """
    _check_names(shapes, _PHI_NAMES, "phi, the network of an inversion")
    first, last = shapes["layers.0.weight"], shapes["layers.6.weight"]
    if len(first) != 2 or len(last) != 2 or 0 in first or 0 in last:
        raise InvalidCheckpointError(
            f"layers.0.weight has the shape {first} and layers.6.weight {last}; expected (hidden, feature) "
            "and (token width, hidden)"
        )
    sizes = PhiSizes(feature_dim=first[1], hidden_dim=first[0], token_width=last[0])
    _check_shapes(shapes, sizes.shapes(), f"a layers.0.weight of {first} and a layers.6.weight of {last}")
    return sizes


def sizes_from_shapes(shapes: Mapping[str, Shape]) -> NetworkSizes:
    """Derive the sizes from the shapes of a state dict, and check every tensor against them.

    Raises:
        InvalidCheckpointError: Names are missing or unexpected, or shapes do not fit together.
    """
    _check_names(shapes, _NAMES, "a Combiner network")
    # The two weights that fix all three widths; every other tensor must agree with them.
    projection, hidden = shapes["text_projection_layer.weight"], shapes["output_layer.weight"]
    if len(projection) != 2 or len(hidden) != 2 or 0 in projection or 0 in hidden:
        raise InvalidCheckpointError(
            f"text_projection_layer.weight has the shape {projection} and output_layer.weight {hidden}; "
            "expected (projection, feature) and (feature, hidden)"
        )
    sizes = NetworkSizes(feature_dim=projection[1], projection_dim=projection[0], hidden_dim=hidden[1])
    _check_shapes(
        shapes,
        sizes.shapes(),
        f"a text_projection_layer.weight of {projection} and an output_layer.weight of {hidden}",
    )
    return sizes


def _check_names(shapes: Mapping[str, Shape], names: Sequence[str], what: str) -> None:
    missing = [name for name in names if name not in shapes]
    unexpected = sorted(name for name in shapes if name not in names)
    if missing or unexpected:
        parts = []
        if missing:
            parts.append(f"missing tensors: {', '.join(missing)}")
        if unexpected:
            parts.append(f"unexpected tensors: {_shorten(unexpected)}")
        raise InvalidCheckpointError(f"not the state dict of {what}; {'; '.join(parts)}")


def _check_shapes(shapes: Mapping[str, Shape], expected: Mapping[str, Shape], beside: str) -> None:
    for name, shape in expected.items():
        if tuple(shapes[name]) != shape:
            raise InvalidCheckpointError(
                f"{name} has the shape {tuple(shapes[name])}, expected {shape} next to {beside}"
            )


def _shorten(names: list[str]) -> str:
    shown = ", ".join(names[:6])
    return shown if len(names) <= 6 else f"{shown} and {len(names) - 6} more"


class WeightType(StrEnum):
    """float32 is exact; the narrow ones are checked against it (`network_loading.py`)."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
