"""An embedder on loopback, in the test's own process, holding a small model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog

from cir.embedder.v1.embedder_pb2_grpc import EmbedderServiceStub
from embedder_service.application import EmbedderApplication
from embedder_service.settings import EmbedderSettings
from service_runtime.logging import configure_logging
from service_runtime.server import serving
from tests.embedder_service.small_config import write_config


@pytest.fixture(autouse=True, scope="package")
def _quiet_log() -> Iterator[None]:
    # Faults are injected on purpose; their traces are for operators.
    before = structlog.get_config()
    configure_logging("critical", "json")
    yield
    structlog.configure(**before)


def small_settings(folder: Path, **settings: Any) -> EmbedderSettings:
    """Settings of an embedder with the small model on a free port."""
    chosen: dict[str, Any] = {
        "port": 0,
        "log_level": "error",
        "architecture": "small",
        "model_config_file": write_config(folder),
        "pretrained": "random:7",
        "device": "cpu",
        "dtype": "float32",
    }
    return EmbedderSettings(**(chosen | settings))


@asynccontextmanager
async def running(settings: EmbedderSettings) -> AsyncIterator[Any]:
    """A stub of a service with these settings; the service stops with the block."""
    options = [
        ("grpc.max_receive_message_length", 64 * 1024 * 1024),
        ("grpc.max_send_message_length", 64 * 1024 * 1024),
    ]
    async with (
        serving(EmbedderApplication(settings), settings) as address,
        grpc.aio.insecure_channel(address, options=options) as channel,
    ):
        yield EmbedderServiceStub(channel)
