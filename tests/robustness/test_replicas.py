"""A replica that appears behind the name gets its share, and no call fails on the way."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cir.combiner.v1 import combiner_pb2
from cir.embedder.v1 import embedder_pb2
from cir_cli.local.readiness import free_ports
from combiner_service.application import CombinerApplication
from combiner_service.settings import CombinerSettings
from embedder_service.application import EmbedderApplication
from service_runtime.server import serving
from tests.embedder_service.conftest import small_settings
from tests.robustness.loopback_dns import loopback_dns
from tests.robustness.requests import good_requests

pytestmark = [pytest.mark.service, pytest.mark.torch, pytest.mark.slow]

HOSTS = ("127.0.0.1", "127.0.0.2")
# A process of its own, because gRPC reads which resolver to use when it is loaded. A call that fails ends it.
CLIENT = """
import sys, time
from cir.channel import open_channel
address, method, request = sys.argv[1:]
with open_channel(address) as channel:
    send = channel.unary_unary(method)
    while True:
        print(send(bytes.fromhex(request), timeout=20).hex(), flush=True)
        time.sleep(0.005)
"""

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="listens on 127.0.0.2")


def replica(service: str, number: int, port: int, folder: Path) -> tuple[Any, Any]:
    """A service that tells its number in its answers, and lets no connection grow older than a second."""
    common: dict[str, Any] = {
        "host": HOSTS[number],
        "port": port,
        "log_level": "error",
        "max_connection_age_seconds": 1.0,
    }
    if service == "combiner":
        combiner = CombinerSettings(default_combiner=("sum", "slerp")[number], **common)
        return CombinerApplication(combiner), combiner
    embedder = small_settings(folder, pretrained=f"random:{number}", threads=1, **common)
    return EmbedderApplication(embedder), embedder


def who(service: str, answer: bytes) -> str:
    """What tells the replicas apart: the combiner or the model that answered."""
    if service == "combiner":
        return combiner_pb2.CombineResponse.FromString(answer).combiner
    return embedder_pb2.EmbedTextsResponse.FromString(answer).features.model_fingerprint


@linux_only
@pytest.mark.parametrize("service", ["combiner", "embedder"])
async def test_a_replica_that_appears_in_dns_gets_its_share(tmp_path: Path, service: str) -> None:
    port = free_ports(1)[0]
    method, request = good_requests(service)[-1]
    first, second = (serving(*replica(service, number, port, tmp_path)) for number in range(2))
    async with first, second, loopback_dns(HOSTS[:1]) as dns:
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CLIENT),
            *(f"dns://127.0.0.1:{dns.port}/replicas.test:{port}", method, request.hex()),
            env={**os.environ, "GRPC_DNS_RESOLVER": "ares"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        assert client.stdout is not None
        assert client.stderr is not None

        async def answering(calls: int) -> Counter[str]:
            assert client.stdout is not None
            lines = [await asyncio.wait_for(client.stdout.readline(), 60) for _ in range(calls)]
            assert all(lines), (await client.stderr.read()).decode()[-2000:] if client.stderr else ""
            return Counter(who(service, bytes.fromhex(line.decode())) for line in lines)

        try:
            alone = await answering(30)
            assert len(alone) == 1
            dns.addresses = HOSTS
            for _ in range(200):
                seen = await answering(30)
                if len(seen) == 2:
                    break
            assert len(seen) == 2
            # Found: from now on both have their part. Connections are closed and opened again meanwhile.
            shares = await answering(400)
            assert min(shares.values()) > 100
            assert set(alone) < set(shares)
            assert dns.questions > 1
        finally:
            if client.returncode is None:
                client.kill()
            await client.communicate()
