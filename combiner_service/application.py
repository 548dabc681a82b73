"""The combiner service as a process serves it: registry, worker threads, servicer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import grpc.aio
import numpy as np

from cir.combiner.v1 import combiner_pb2, combiner_pb2_grpc
from combiner_service.checkpoint_directory import PREFIX
from combiner_service.errors import CombinerError
from combiner_service.registry import Registry
from combiner_service.servicer import CombinerServicer
from combiner_service.settings import CombinerSettings
from service_runtime.application import Application
from service_runtime.startup import StartupError


class CombinerApplication(Application):
    """Serves the simple combiners, and those of `checkpoint_dir` where it is set."""

    service_names = (combiner_pb2.DESCRIPTOR.services_by_name["CombinerService"].full_name,)

    def __init__(self, settings: CombinerSettings) -> None:
        self._settings = settings
        self._workers = ThreadPoolExecutor(settings.worker_threads, thread_name_prefix="combine")
        self._registry = Registry(
            settings.checkpoint_dir,
            settings.checkpoint_fingerprints,
            max_loaded=settings.max_loaded_networks,
            torch_threads=settings.torch_threads_per_call,
        )

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer."""
        servicer = CombinerServicer(self._registry, self._settings, self._workers)
        combiner_pb2_grpc.add_CombinerServiceServicer_to_server(servicer, server)

    async def start(self) -> Mapping[str, object]:
        """Look at the folder, load and run what is to be preloaded. Raises StartupError."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, self._start)

    async def close(self) -> None:
        """Stop the worker threads."""
        await asyncio.to_thread(self._workers.shutdown, cancel_futures=True)

    def _start(self) -> Mapping[str, object]:
        settings = self._settings
        self._check_folder()
        # The default combiner is what most calls use: it must work, and is ready before the first call.
        wanted = list(dict.fromkeys((settings.default_combiner, *settings.preload)))
        networks = [name for name in wanted if name.startswith(PREFIX)]
        if len(networks) > settings.max_loaded_networks:
            raise StartupError(
                f"{len(networks)} networks are to be loaded at the start, max_loaded_networks is "
                f"{settings.max_loaded_networks}; raise it or shorten preload"
            )
        for name in wanted:
            self._warm_up(name)
        infos = self._registry.infos()
        return {
            "combiners": [info.name for info in infos if not info.problem],
            "unusable": {info.name: info.problem for info in infos if info.problem},
            "default_combiner": settings.default_combiner,
            "max_batch_items": settings.max_batch_items,
            "max_dimension": settings.max_dimension,
            "max_message_bytes": settings.max_message_bytes,
            "max_concurrent_calls": settings.max_concurrent_calls,
            "worker_threads": settings.worker_threads,
            "torch_threads": settings.torch_threads_per_call if settings.checkpoint_dir else 0,
        }

    def _check_folder(self) -> None:
        folder = self._settings.checkpoint_dir
        if folder is None:
            return
        if not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
            raise StartupError(
                f"checkpoint_dir {folder} is not a folder that can be read; create it, or leave the setting "
                "out to serve sum, slerp, image and text alone"
            )
        missing = [module for module in ("torch", "safetensors") if find_spec(module) is None]
        if missing:
            raise StartupError(
                f"checkpoint_dir is set but {' and '.join(missing)} cannot be imported; install the extra "
                "[combiner], or leave the setting out"
            )

    def _warm_up(self, name: str) -> None:
        try:
            combiner = self._registry.get(name)
            row = np.ones((1, combiner.info.dimension or 1), dtype=np.float32)
            combiner.combine(row, row)
        except CombinerError as error:
            raise StartupError(str(error)) from error
