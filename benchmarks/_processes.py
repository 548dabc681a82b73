"""Services as processes of their own, for benchmarks: started, waited for, stopped."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


@dataclass(frozen=True, slots=True)
class Services:
    """Addresses of a whole deployment on this machine."""

    embedder: str
    combiner: str
    search: str
    store: str


@contextmanager
def service(module: str, environment: Mapping[str, str], *, ready: str, log: Path) -> Iterator[str]:
    """`python -m module` on a free port until the block ends; yields "host:port" once `ready` is SERVING."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    prefix = f"CIR_{module.split('_')[0].upper()}_"
    variables = {f"{prefix}{name}": value for name, value in environment.items()}
    variables[f"{prefix}PORT"] = address.rpartition(":")[2]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", module], env={**os.environ, **variables}, stderr=stderr
        )
    try:
        _wait(process, address, ready, log)
        yield address
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def deployment(folder: Path, *, architecture: str, pretrained: str) -> Iterator[Services]:
    """Embedder, combiner and search over an embedded store below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    store = f"edge://{folder.resolve() / 'store'}"
    with ExitStack() as stack:
        embedder = stack.enter_context(
            service(
                "embedder_service",
                {"ARCHITECTURE": architecture, "PRETRAINED": pretrained, "LOG_LEVEL": "warning"},
                ready="cir.embedder.v1.EmbedderService",
                log=folder / "embedder.log",
            )
        )
        combiner = stack.enter_context(
            service(
                "combiner_service",
                {"LOG_LEVEL": "warning"},
                ready="cir.combiner.v1.CombinerService",
                log=folder / "combiner.log",
            )
        )
        search = stack.enter_context(
            service(
                "search_service",
                {"EMBEDDER": embedder, "COMBINER": combiner, "STORE": store, "LOG_LEVEL": "warning"},
                ready="cir.search.v1.SearchService",
                log=folder / "search.log",
            )
        )
        yield Services(embedder, combiner, search, store)


def _wait(process: subprocess.Popen[bytes], address: str, name: str, log: Path, limit: float = 180) -> None:
    ends = time.monotonic() + limit
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < ends:
            if process.poll() is not None:
                raise RuntimeError(f"{name} did not start: {log.read_text()[-500:]}")
            try:
                answer = health.Check(  # type: ignore[attr-defined]  # its stubs lack the methods
                    health_pb2.HealthCheckRequest(service=name), timeout=2
                )
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.RpcError:
                pass
            time.sleep(0.2)
    raise RuntimeError(f"{name} was not ready within {limit:g} s; see {log}")
