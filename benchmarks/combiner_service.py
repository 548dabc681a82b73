"""Latency of the combiner service over gRPC, beside the bare network called in this process.

Usage: python -m benchmarks.combiner_service [--batch-sizes 1 256] [--seconds 5] [--json FILE]

The service runs as a process of its own, as in production, with the published sizes and seeded random
weights (speed does not depend on their values). Calls of the service and of the bare network alternate, so
that both see the same machine. The last column is the median of the differences of neighbouring calls.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cir.channel import open_channel
from cir.combiner.v1 import combiner_pb2 as pb
from cir.combiner.v1.combiner_pb2_grpc import CombinerServiceStub
from cir.vectors import pack, unpack
from combiner_service.checkpoint import write_checkpoint
from combiner_service.checkpoint_metadata import CheckpointMetadata
from combiner_service.combiner import Combiner
from combiner_service.network import CombinerNetwork
from combiner_service.network_sizes import NetworkSizes
from combiner_service.simple import SumCombiner
from combiner_service.slerp import SlerpCombiner

NETWORK = "combiner/benchmark"
Features = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One line of the table; times in milliseconds."""

    combiner: str
    batch_size: int
    calls: int
    grpc_p50_ms: float
    grpc_p99_ms: float
    in_process_p50_ms: float
    in_process_p99_ms: float
    grpc_adds_ms: float


def measure(served: Callable[[], object], bare: Callable[[], object], seconds: float) -> tuple[Features, int]:
    """Alternate both for about `seconds`, after a warm-up. Times in milliseconds, (calls, 2)."""
    for _ in range(3):
        served(), bare()
    times: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        served()
        middle = time.perf_counter()
        bare()
        times.append(((middle - start) * 1000, (time.perf_counter() - middle) * 1000))
    return np.array(times, dtype=np.float32), len(times)


def row(
    name: str,
    batch_size: int,
    stub: CombinerServiceStub,
    bare: Callable[[Features, Features], Features],
    dimension: int,
    seconds: float,
) -> Row:
    """Measure one combiner at one batch size, and check that both give the same vectors."""
    generator = np.random.default_rng(batch_size)
    image = (generator.standard_normal((batch_size, dimension)) * 0.4).astype(np.float32)
    text = (generator.standard_normal((batch_size, dimension)) * 0.4).astype(np.float32)

    def served() -> Features:
        # Packing and unpacking are part of what a caller waits for.
        request = pb.CombineRequest(combiner=name, image_features=pack(image), text_features=pack(text))
        return unpack(stub.Combine(request, timeout=60).query_vectors)

    np.testing.assert_allclose(served(), bare(image, text), atol=1e-5)
    times, calls = measure(served, lambda: bare(image, text), seconds)
    p50, p99 = np.percentile(times, 50, axis=0), np.percentile(times, 99, axis=0)
    return Row(
        combiner=name,
        batch_size=batch_size,
        calls=calls,
        grpc_p50_ms=round(float(p50[0]), 3),
        grpc_p99_ms=round(float(p99[0]), 3),
        in_process_p50_ms=round(float(p50[1]), 3),
        in_process_p99_ms=round(float(p99[1]), 3),
        grpc_adds_ms=round(float(np.median(times[:, 0] - times[:, 1])), 3),
    )


def bare_network(network: CombinerNetwork) -> Callable[[Features, Features], Features]:
    """The network itself, on tensors that share the features' memory."""

    def call(image: Features, text: Features) -> Features:
        with torch.inference_mode():
            vectors, _ = network(torch.from_numpy(image), torch.from_numpy(text))
        answer: Features = vectors.numpy()
        return answer

    return call


def bare_combiner(combiner: Combiner) -> Callable[[Features, Features], Features]:
    """A simple combiner, called without the service."""
    return lambda image, text: combiner.combine(image, text).query_vectors


def run(arguments: argparse.Namespace) -> list[Row]:
    """Start the service, measure every row, stop the service."""
    sizes = NetworkSizes(arguments.dimension, arguments.projection, arguments.hidden)
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    network = CombinerNetwork(sizes).eval().requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder, "benchmark.safetensors"), network.state_dict(), CheckpointMetadata())
        command = [sys.executable, "-m", "combiner_service", "--port", "0", "--checkpoint-dir", folder]
        command += ["--default-combiner", NETWORK, "--torch-threads", str(arguments.threads)]
        service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert service.stderr is not None
            line = service.stderr.readline()
            if '"serving"' not in line:
                raise SystemExit(f"the service did not start: {line}{service.stderr.read()}")
            address = json.loads(line)["address"]
            # Read away the log of every call: a full pipe would block the service.
            drain = subprocess.Popen(["cat"], stdin=service.stderr, stdout=subprocess.DEVNULL)
            service.stderr.close()
            bare = {
                NETWORK: bare_network(network),
                "sum": bare_combiner(SumCombiner()),
                "slerp": bare_combiner(SlerpCombiner()),
            }
            with open_channel(address) as channel:
                stub = CombinerServiceStub(channel)
                rows = [
                    row(name, batch_size, stub, call, sizes.feature_dim, arguments.seconds)
                    for name, call in bare.items()
                    for batch_size in arguments.batch_sizes
                ]
        finally:
            service.terminate()
            service.wait(60)
        drain.wait(60)
    return rows


def print_table(rows: list[Row]) -> None:
    """The rows for people."""
    print(f"{'':20} {'':>5} {'':>6} {'gRPC ms':>16} {'in-process ms':>16} {'gRPC adds':>10}")
    print(
        f"{'combiner':20} {'batch':>5} {'calls':>6} {'p50':>8}{'p99':>8} {'p50':>8}{'p99':>8} {'p50 ms':>10}"
    )
    for item in rows:
        print(
            f"{item.combiner:20} {item.batch_size:5} {item.calls:6} {item.grpc_p50_ms:8.2f}"
            f"{item.grpc_p99_ms:8.2f} {item.in_process_p50_ms:8.2f}{item.in_process_p99_ms:8.2f} "
            f"{item.grpc_adds_ms:10.2f}"
        )


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 256], metavar="N")
    parser.add_argument("--dimension", type=int, default=640, help="feature width (640: RN50x4)")
    parser.add_argument("--projection", type=int, default=2560)
    parser.add_argument("--hidden", type=int, default=5120)
    parser.add_argument(
        "--threads", type=int, default=2, help="torch threads of the service and of the baseline"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each row")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here")
    arguments = parser.parse_args()
    rows = run(arguments)
    print_table(rows)
    if arguments.json:
        facts = {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": arguments.threads,
            "sizes": [arguments.dimension, arguments.projection, arguments.hidden],
        }
        arguments.json.write_text(
            json.dumps({**facts, "rows": [asdict(item) for item in rows]}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
