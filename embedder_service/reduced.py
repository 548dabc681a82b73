"""A model's module in the dtype that it computes in."""

from __future__ import annotations

import copy

import torch

from embedder_service.cpu_flags import read_cpu_flags
from embedder_service.int8 import Int8Layers, quantise
from service_runtime.errors import StartupError


def in_dtype(
    module: torch.nn.Module, device: torch.device, dtype: torch.dtype, int8_layers: Int8Layers
) -> torch.nn.Module:
    """Put the module itself on the device in float32, or a copy of it in another dtype.

    Raises StartupError for int8 on another device than the CPU, or where it cannot be computed.
    """
    if dtype is torch.float32:
        return module.to(device)
    if dtype is torch.int8:
        if device.type != "cpu":
            raise StartupError(f"dtype int8 runs on the CPU only, not on {device}; use dtype auto")
        return quantise(module, read_cpu_flags(), int8_layers)
    return copy.deepcopy(module).to(device=device, dtype=dtype)


def input_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that pixels are given in: int8 layers take and give float32."""
    return torch.float32 if dtype is torch.int8 else dtype
