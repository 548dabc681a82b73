"""How the weights of a network are held. Without torch, so that settings can name it."""

from __future__ import annotations

from enum import StrEnum


class WeightType(StrEnum):
    """float32 is exact; the narrow ones are checked against it (network_precision.py)."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
