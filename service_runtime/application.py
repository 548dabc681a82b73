"""What a service brings: its parts, apart from how a process serves them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence

import grpc.aio
from prometheus_client.registry import Collector

from service_runtime.progress import Progress


class Application(ABC):
    """One service. The port opens before `start`, so that probes see a live process that warms up."""

    #: Full names of the gRPC services, for health and reflection.
    service_names: Sequence[str]
    #: Full method paths ("/package.Service/Method") that change data and need a key of the write scope.
    write_methods: Collection[str] = frozenset()

    @abstractmethod
    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicers. No call reaches them before `start` has returned."""

    @abstractmethod
    async def start(self) -> Mapping[str, object]:
        """Load and warm up; returns the facts to log (model, limits). Raises `StartupError`."""

    @abstractmethod
    async def close(self) -> None:
        """Release everything. No call is under way any more. Also called when `start` failed."""

    def collectors(self) -> Sequence[Collector]:
        """Metrics of the service's own, beside those of its calls. Asked for after `start`."""
        return ()

    def progress(self) -> Mapping[str, Progress]:
        """Queues, pools and device threads by name, for the watchdog. Asked for after `start`."""
        return {}
