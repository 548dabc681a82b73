"""From a checkpoint file to a combiner that is ready to serve: weights, device, precision, threads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from combiner_service.checkpoint import read_checkpoint
from combiner_service.combiner import CombinerInfo
from combiner_service.network import CombinerNetwork, NetworkCombiner
from combiner_service.network_spec import WeightType
from combiner_service.quantize import quantize, smallest_cosine
from combiner_service.thread_tuning import ThreadCounts, tune_threads
from service_runtime.logging import get_logger


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Device, weights and threads of networks; each is a setting of the service.

    `device` is a device of torch or "auto"; `max_threads` 0 leaves the number of threads to torch.
    """

    device: str = "cpu"
    weight_type: WeightType = WeightType.FLOAT32
    min_cosine: float = 0.999
    max_threads: int = 0


def choose_device(wanted: str) -> str:
    """The device for a setting: "auto" is CUDA where there is one. ValueError for one that is not there."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
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
        MemoryError, RuntimeError: The network does not fit into memory, or torch fails otherwise.
    """
    options = options or LoadOptions()
    device = choose_device(options.device)
    exact = CombinerNetwork.from_weights(read_checkpoint(path).weights).to(device)
    network = _narrowed(exact, info.name, options, on_cpu=device == "cpu")
    if device != "cpu" or not options.max_threads:
        return NetworkCombiner(info, network)
    many = options.max_threads
    few = _threads_for_one_row(network, many) if many > 1 else 1
    return NetworkCombiner(info, network, threads=ThreadCounts(few, many))


def _narrowed(exact: CombinerNetwork, name: str, options: LoadOptions, *, on_cpu: bool) -> CombinerNetwork:
    wanted = options.weight_type
    if wanted is WeightType.FLOAT32:
        return exact
    if wanted is WeightType.INT8 and not on_cpu:
        get_logger().warning("weights in int8 are for the CPU alone, float32 is used", combiner=name)
        return exact
    narrow = quantize(exact, wanted)
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


def _threads_for_one_row(network: CombinerNetwork, most: int) -> int:
    row = torch.ones((1, network.sizes.feature_dim))

    def run(threads: int) -> None:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            network(row, row)

    return tune_threads(run, most)
