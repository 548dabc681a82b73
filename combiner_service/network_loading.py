"""From a checkpoint file to a combiner that is ready to serve: weights, device, precision, threads."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from combiner_service.checkpoint import read_checkpoint
from combiner_service.combiner import CombinerInfo, Float32
from combiner_service.cpu_network import CpuNetwork, smallest_cosine
from combiner_service.network import NetworkCombiner
from combiner_service.network_spec import WeightType
from service_runtime.gpu import may_use_gpu
from service_runtime.logging import get_logger


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Device, weights and threads of networks; each is a setting of the service.

    `device` is "cpu", "cuda", "cuda:N" or "auto"; `max_threads` 0 takes every core.
    """

    device: str = "cpu"
    weight_type: WeightType = WeightType.FLOAT32
    min_cosine: float = 0.999
    max_threads: int = 0


def choose_device(wanted: str) -> str:
    """Return the device for a setting: "auto" is CUDA where there is one.

    torch, which runs networks on CUDA, is imported only where a driver shows that there may be a device.

    Raises:
        ValueError: The device is not there, or torch is not installed.
    """
    if wanted == "cpu":
        return wanted
    if wanted == "auto" and not may_use_gpu():
        return "cpu"
    if find_spec("torch") is None:
        raise ValueError(f"device {wanted} needs torch; install the extra [torch], or use cpu or auto")
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if (torch.device(wanted).index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {wanted} is not there; torch sees {torch.cuda.device_count()} CUDA devices, "
            "use cpu or auto"
        )
    return wanted


def load_network(path: Path, info: CombinerInfo, options: LoadOptions | None = None) -> NetworkCombiner:
    """Read a checkpoint and make it ready.

    Raises:
        InvalidCheckpointError: The file is not a checkpoint that can be used.
        OSError: The file cannot be read.
        MemoryError, RuntimeError: The network does not fit into memory, or its runtime fails otherwise.
    """
    options = options or LoadOptions()
    device = choose_device(options.device)
    weights = read_checkpoint(path).weights
    if device == "cpu":
        return NetworkCombiner(info, _on_cpu(weights, info.name, options))
    if options.weight_type is not WeightType.FLOAT32:
        get_logger().warning("narrow weights are for the CPU alone, float32 is used", combiner=info.name)
    from combiner_service.torch_network import CombinerNetwork, TorchRuntime

    return NetworkCombiner(info, TorchRuntime(CombinerNetwork.from_weights(weights).to(device)))


def _on_cpu(weights: Mapping[str, Float32], name: str, options: LoadOptions) -> CpuNetwork:
    threads = options.max_threads or len(os.sched_getaffinity(0))
    exact = CpuNetwork(weights, threads=threads)
    wanted = options.weight_type
    if wanted is WeightType.FLOAT32:
        return exact
    narrow = CpuNetwork(weights, weight_type=wanted, threads=threads)
    cosine = smallest_cosine(exact, narrow)
    # Written so that NaN, which compares with nothing, is refused too.
    if not (math.isfinite(cosine) and cosine >= options.min_cosine):
        get_logger().warning(
            "weights refused, float32 is used",
            combiner=name,
            weight_type=wanted.value,
            cosine=cosine,
            bound=options.min_cosine,
        )
        return exact
    get_logger().info("weights narrowed", combiner=name, weight_type=wanted.value, cosine=cosine)
    return narrow
