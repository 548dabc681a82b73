"""From a checkpoint file to a combiner that is ready to serve: weights, device, precision, threads."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cir.extras import install
from combiner_service.checkpoint import read_checkpoint
from combiner_service.combiner import CombinerInfo, Float32, Needs
from combiner_service.cpu_network import CpuNetwork, CpuPhi, Network, smallest_cosine
from combiner_service.errors import InvalidCheckpointError
from combiner_service.inversion import PhiInversion, inversion_traits
from combiner_service.network import NetworkCombiner
from combiner_service.network_spec import NetworkSizes, PhiSizes, WeightType
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
        raise ValueError(f"device {wanted} needs torch; {install('torch')}, or use cpu or auto")
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if (torch.device(wanted).index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {wanted} is not there; torch sees {torch.cuda.device_count()} CUDA devices, "
            "use cpu or auto"
        )
    return wanted


def load_composer(
    path: Path, info: CombinerInfo, options: LoadOptions | None = None
) -> NetworkCombiner | PhiInversion:
    """Read a checkpoint, of a Combiner or of phi as `info` says, and make it ready.

    Raises:
        InvalidCheckpointError: The file is not a checkpoint that can be used.
        OSError: The file cannot be read.
        MemoryError, RuntimeError: The network does not fit into memory, or its runtime fails otherwise.
    """
    load = load_network if info.needs is Needs.FEATURES else load_inversion
    return load(path, info, options)


def load_network(path: Path, info: CombinerInfo, options: LoadOptions | None = None) -> NetworkCombiner:
    """Read a Combiner's checkpoint and make it ready. Raises as `load_composer` does."""
    options = options or LoadOptions()
    device = choose_device(options.device)
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint.sizes, NetworkSizes):
        raise InvalidCheckpointError("the file is an inversion's, no Combiner's")
    if device == "cpu":
        return NetworkCombiner(info, _on_cpu(CpuNetwork, checkpoint.weights, info.name, options))
    _warn_of_narrow(info, options)
    from combiner_service.torch_network import CombinerNetwork, TorchRuntime

    return NetworkCombiner(info, TorchRuntime(CombinerNetwork.from_weights(checkpoint.weights).to(device)))


def load_inversion(path: Path, info: CombinerInfo, options: LoadOptions | None = None) -> PhiInversion:
    """Read an inversion's checkpoint and make it ready. Raises as `load_composer` does."""
    options = options or LoadOptions()
    device = choose_device(options.device)
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint.sizes, PhiSizes):
        raise InvalidCheckpointError("the file is a Combiner's, no inversion's")
    traits = inversion_traits(checkpoint.metadata.extra)
    if device == "cpu":
        return PhiInversion(info, _on_cpu(CpuPhi, checkpoint.weights, info.name, options), traits)
    _warn_of_narrow(info, options)
    from combiner_service.torch_network import Phi, TorchPhi

    return PhiInversion(info, TorchPhi(Phi.from_weights(checkpoint.weights).to(device)), traits)


def _warn_of_narrow(info: CombinerInfo, options: LoadOptions) -> None:
    if options.weight_type is not WeightType.FLOAT32:
        get_logger().warning("narrow weights are for the CPU alone, float32 is used", combiner=info.name)


def _on_cpu(kind: type[Network], weights: Mapping[str, Float32], name: str, options: LoadOptions) -> Network:
    threads = options.max_threads or len(os.sched_getaffinity(0))
    exact = kind(weights, threads=threads)
    wanted = options.weight_type
    if wanted is WeightType.FLOAT32:
        return exact
    narrow = kind(weights, weight_type=wanted, threads=threads)
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
