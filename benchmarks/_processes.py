"""Services as processes of their own: started, waited for, stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cir_cli.local.readiness import free_ports

NAMES = {
    "embedder_service": "cir.embedder.v1.EmbedderService",
    "combiner_service": "cir.combiner.v1.CombinerService",
    "search_service": "cir.search.v1.SearchService",
}

#: Of the processes that speak HTTP: the prefix of their settings in the environment.
PREFIXES = {"http_gateway": "CIR_HTTP_", "web_demo": "CIR_DEMO_"}

# A CLIP so small that everything around it is what takes time, in open_clip's layout.
SMALL_MODEL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@dataclass(frozen=True, slots=True)
class Services:
    """Addresses of a whole deployment on this machine."""

    embedder: str
    combiner: str
    search: str
    store: str


@dataclass(frozen=True, slots=True)
class Running:
    """One service: its process, where it listens, where it logs."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path

    def resident_bytes(self) -> int:
        """Memory that the process holds now. Linux only."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def peak_bytes(self) -> int:
        """The most memory that the process has held so far. Linux only."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        kib = next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]
        return int(kib) << 10


def small_model(folder: Path) -> dict[str, str]:
    """Settings of an embedder with `SMALL_MODEL`, whose file is written to `folder`."""
    path = folder / "small.json"
    path.write_text(json.dumps(SMALL_MODEL))
    return {"ARCHITECTURE": "small", "MODEL_CONFIG_FILE": str(path), "PRETRAINED": "random:7"}


@contextmanager
def running(
    module: str,
    environment: Mapping[str, str],
    *,
    log: Path,
    ready: str = "",
    port: int = 0,
    checkout: Path | None = None,
) -> Iterator[Running]:
    """`python -m module` on a free port (or `port`) until the block ends; yields once `ready` is SERVING.

    `ready` is the service's own name where it is left out; what speaks HTTP is ready when it answers.
    `checkout` is the folder with the code where that is not this one. The process may have ended before the
    block.
    """
    address = f"127.0.0.1:{port or free_ports(1)[0]}"
    prefix = PREFIXES.get(module, f"CIR_{module.split('_')[0].upper()}_")
    variables = {f"{prefix}{name}": value for name, value in environment.items()}
    if checkout is not None:
        variables["PYTHONPATH"] = str(checkout)
    variables[f"{prefix}PORT"] = address.rpartition(":")[2]
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", module], env={**os.environ, **variables}, stderr=stderr, cwd=checkout
        )
    try:
        if module in PREFIXES:
            _wait(process, module, partial(_answers_http, address), log)
        else:
            _wait(process, module, partial(_is_serving, address, ready or NAMES[module]), log)
        yield Running(process, address, log)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def service(module: str, environment: Mapping[str, str], *, ready: str, log: Path) -> Iterator[str]:
    """`running`, for those who need only the address: "host:port"."""
    with running(module, environment, ready=ready, log=log) as started:
        yield started.address


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


def _wait(
    process: subprocess.Popen[bytes], name: str, is_ready: Callable[[], bool], log: Path, limit: float = 180
) -> None:
    ends = time.monotonic() + limit
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise RuntimeError(f"{name} did not start: {log.read_text()[-500:]}")
        if is_ready():
            return
        time.sleep(0.1)
    raise RuntimeError(f"{name} was not ready within {limit:g} s; see {log}")


def _is_serving(address: str, name: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        try:
            answer = health.Check(  # type: ignore[attr-defined]  # its stubs lack the methods
                health_pb2.HealthCheckRequest(service=name), timeout=2
            )
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _answers_http(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/healthz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
