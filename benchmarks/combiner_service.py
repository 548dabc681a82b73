"""Latency and throughput of the combiner service over gRPC, beside the same work without it.

Usage: python -m benchmarks.combiner_service [--batch-sizes 1 256] [--clients 1 8 32] [--seconds 5]
    [--json FILE]

Three tables: every kind of combiner, over gRPC and in this process; calls of one pair by several clients at
once, with forward passes shared and without; the network as CPUs serve it, with each type of weights, next to
the same network in torch, in this process.

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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cir.channel import open_channel
from cir.combiner.v1 import combiner_pb2 as pb
from cir.combiner.v1.combiner_pb2_grpc import CombinerServiceStub
from cir.vectors import pack, unpack
from combiner_service.builtin import ImageCombiner, SlerpCombiner, SumCombiner, TextCombiner
from combiner_service.checkpoint import CheckpointMetadata, write_checkpoint
from combiner_service.combiner import Combiner
from combiner_service.cpu_network import CpuNetwork, smallest_cosine
from combiner_service.network_spec import NetworkSizes, WeightType
from combiner_service.torch_network import CombinerNetwork

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


def bare_served(network: CpuNetwork) -> Callable[[Features, Features], Features]:
    """The network as it is served on CPUs."""
    return lambda image, text: network(image, text)[0]


def bare_combiner(combiner: Combiner) -> Callable[[Features, Features], Features]:
    """A simple combiner, called without the service."""
    return lambda image, text: combiner.combine(image, text).query_vectors


@dataclass(frozen=True)
class ClientsRow:
    """Calls of one pair by several clients at once."""

    clients: int
    alone_per_second: float
    shared_per_second: float
    alone_p50_ms: float
    shared_p50_ms: float


@dataclass(frozen=True)
class WeightsRow:
    """The network in this process with weights of one type, next to torch in float32."""

    weights: str
    batch_size: int
    p50_ms: float
    torch_p50_ms: float
    smallest_cosine: float


def load(stub: CombinerServiceStub, clients: int, dimension: int, seconds: float) -> tuple[float, float]:
    """Each client is a thread that calls with one pair, again and again.

    Returns calls a second and the median of their milliseconds.
    """
    generator = np.random.default_rng(0)
    features = (generator.standard_normal((2, 1, dimension)) * 0.4).astype(np.float32)
    request = pb.CombineRequest(
        combiner=NETWORK, image_features=pack(features[0]), text_features=pack(features[1])
    )
    started = time.perf_counter()
    end = started + seconds

    def calls(_: int) -> list[float]:
        times = []
        while time.perf_counter() < end:
            start = time.perf_counter()
            stub.Combine(request, timeout=60)
            times.append((time.perf_counter() - start) * 1000)
        return times

    with ThreadPoolExecutor(clients) as pool:
        times = [one for part in pool.map(calls, range(clients)) for one in part]
    return len(times) / (time.perf_counter() - started), float(np.median(times))


def clients_row(clients: int, alone: str, shared: str, dimension: int, seconds: float) -> ClientsRow:
    """Both services in turns, four each, so that they see the same machine. Clients share a connection."""
    figures: dict[str, list[tuple[float, float]]] = {alone: [], shared: []}
    for _ in range(4):
        for address, found in figures.items():
            with open_channel(address) as channel:
                stub = CombinerServiceStub(channel)
                load(stub, 1, dimension, 0.2)
                found.append(load(stub, clients, dimension, seconds / 4))
    (alone_rate, alone_ms), (shared_rate, shared_ms) = (
        np.median(np.array(found), axis=0).tolist() for found in figures.values()
    )
    return ClientsRow(
        clients, round(alone_rate, 1), round(shared_rate, 1), round(alone_ms, 2), round(shared_ms, 2)
    )


def weights_rows(
    network: CombinerNetwork, batch_sizes: list[int], threads: int, seconds: float
) -> list[WeightsRow]:
    """Every type of weights beside torch in float32, call by call in turns."""
    rows = []
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    exact = CpuNetwork(weights, threads=threads)
    for weight_type in WeightType:
        served = CpuNetwork(weights, weight_type=weight_type, threads=threads)
        cosine = smallest_cosine(exact, served)
        calls = bare_served(served), bare_network(network)
        for batch_size in batch_sizes:
            generator = np.random.default_rng(batch_size)
            features = generator.standard_normal((2, batch_size, network.sizes.feature_dim)) * 0.4
            image, text = features.astype(np.float32)
            times, _ = measure(partial(calls[0], image, text), partial(calls[1], image, text), seconds)
            p50 = np.percentile(times, 50, axis=0).round(3).tolist()
            rows.append(WeightsRow(weight_type.value, batch_size, p50[0], p50[1], cosine))
    return rows


@contextmanager
def serving(folder: str, *options: str) -> Iterator[str]:
    """The service as a process until the block ends; yields its address."""
    command = [sys.executable, "-m", "combiner_service", "--port", "0", "--checkpoint-dir", folder]
    command += ["--default-combiner", NETWORK, *options]
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert service.stderr is not None
        line = ""
        while '"serving"' not in line:
            line = service.stderr.readline()
            if not line:
                raise SystemExit(f"the service did not start: {command}")
        # Read away the log of every call: a full pipe would block the service.
        drain = subprocess.Popen(["cat"], stdin=service.stderr, stdout=subprocess.DEVNULL)
        service.stderr.close()
        yield json.loads(line)["address"]
    finally:
        service.terminate()
        service.wait(60)
    drain.wait(60)


def run(arguments: argparse.Namespace) -> tuple[list[Row], list[ClientsRow], list[WeightsRow]]:
    """Start the services, measure every row, stop them."""
    sizes = NetworkSizes(arguments.dimension, arguments.projection, arguments.hidden)
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    network = CombinerNetwork(sizes).eval().requires_grad_(False)
    bare: dict[str, Callable[[Features, Features], Features]] = {NETWORK: bare_network(network)}
    for combiner in (SumCombiner(), SlerpCombiner(), ImageCombiner(), TextCombiner()):
        bare[combiner.info.name] = bare_combiner(combiner)
    threads = ("--threads", str(arguments.threads))
    with tempfile.TemporaryDirectory() as folder:
        weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        write_checkpoint(Path(folder, "benchmark.safetensors"), weights, CheckpointMetadata())
        with (
            serving(folder, *threads) as shared,
            serving(folder, *threads, "--max-forward-items", "1") as alone,
        ):
            with open_channel(shared) as channel:
                stub = CombinerServiceStub(channel)
                rows = [
                    row(name, batch_size, stub, call, sizes.feature_dim, arguments.seconds)
                    for name, call in bare.items()
                    for batch_size in arguments.batch_sizes
                ]
            clients = [
                clients_row(n, alone, shared, sizes.feature_dim, arguments.seconds) for n in arguments.clients
            ]
    return rows, clients, weights_rows(network, arguments.batch_sizes, arguments.threads, arguments.seconds)


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


def print_clients(rows: list[ClientsRow]) -> None:
    """Calls of one pair, for people."""
    print(f"\n{NETWORK}, calls of one pair: forward passes alone (baseline) and shared")
    print(f"{'clients':>7} {'alone calls/s':>14} {'shared':>8} {'alone p50 ms':>13} {'shared':>8}")
    for item in rows:
        print(
            f"{item.clients:7} {item.alone_per_second:14.1f} {item.shared_per_second:8.1f} "
            f"{item.alone_p50_ms:13.1f} {item.shared_p50_ms:8.1f}"
        )


def print_weights(rows: list[WeightsRow]) -> None:
    """Types of weights, for people."""
    print("\nThe network in this process as CPUs serve it, next to torch in float32 (baseline)")
    print(f"{'weights':>9} {'batch':>6} {'p50 ms':>8} {'torch p50 ms':>15} {'smallest cosine':>16}")
    for item in rows:
        print(
            f"{item.weights:>9} {item.batch_size:6} {item.p50_ms:8.2f} {item.torch_p50_ms:15.2f} "
            f"{item.smallest_cosine:16.7f}"
        )


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 256], metavar="N")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], metavar="N")
    parser.add_argument("--dimension", type=int, default=640, help="feature width (640: RN50x4)")
    parser.add_argument("--projection", type=int, default=2560)
    parser.add_argument("--hidden", type=int, default=5120)
    parser.add_argument("--threads", type=int, default=2, help="threads of the service and of the baseline")
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each row")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here")
    arguments = parser.parse_args()
    rows, clients, weights = run(arguments)
    print_table(rows)
    print_clients(clients)
    print_weights(weights)
    if arguments.json:
        facts = {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": arguments.threads,
            "sizes": [arguments.dimension, arguments.projection, arguments.hidden],
        }
        arguments.json.write_text(
            json.dumps(
                {
                    **facts,
                    "rows": [asdict(item) for item in rows],
                    "clients": [asdict(item) for item in clients],
                    "weights": [asdict(item) for item in weights],
                },
                indent=2,
            )
            + "\n"
        )


if __name__ == "__main__":
    main()
