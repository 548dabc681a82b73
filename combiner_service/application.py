"""The combiner service as a process serves it: registry, worker threads, servicer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import grpc.aio
import numpy as np
from prometheus_client.registry import Collector

from cir.combiner.v1 import combiner_pb2, combiner_pb2_grpc
from combiner_service.builtin import named_combiners
from combiner_service.checkpoint_directory import CheckpointDirectory, CheckpointEntry, is_checkpoint
from combiner_service.combine_queue import CombineQueue, CombineWorkers
from combiner_service.combiner import Composer, Pairs
from combiner_service.errors import CombinerError, PluginError
from combiner_service.executor import CombineExecutor
from combiner_service.metrics import CombinerMetrics
from combiner_service.registry import Registry
from combiner_service.servicer import CombinerServicer
from combiner_service.settings import CombinerSettings
from service_runtime.errors import StartupError, not_installed
from service_runtime.server import Application
from service_runtime.watchdog import Progress


class CombinerApplication(Application):
    """Service of the combiners without a checkpoint, and of those in `checkpoint_dir` where it is set."""

    service_names = (combiner_pb2.DESCRIPTOR.services_by_name["CombinerService"].full_name,)

    def __init__(self, settings: CombinerSettings) -> None:
        self._settings = settings
        try:
            named = named_combiners()
        except PluginError as error:
            raise StartupError(str(error)) from error
        self._metrics = CombinerMetrics(named)
        directory = None
        if settings.checkpoint_dirs:
            directory = CheckpointDirectory(
                settings.checkpoint_dirs,
                settings.checkpoint_fingerprints,
                interval=settings.checkpoint_scan_seconds,
                max_bytes=settings.max_checkpoint_bytes,
                fallback=settings.fallback_dir,
            )
        self._registry = Registry(
            directory,
            named=named,
            max_loaded=settings.max_loaded_networks,
            load=self._load,
            metrics=self._metrics,
        )
        self._queue = CombineQueue(
            max_waiting_items=settings.max_waiting_items,
            max_forward_items=settings.max_forward_items,
            gathers=is_checkpoint,
        )
        self._workers = CombineWorkers(
            self._queue,
            CombineExecutor(self._registry, self._metrics),
            self._metrics,
            threads=settings.worker_threads,
        )
        self._folder = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._metrics.watch(
            waiting=lambda: self._queue.waiting_items,
            networks=lambda: len(self._registry.loaded()),
            unusable=self._registry.unusable_count,
        )

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicer."""
        servicer = CombinerServicer(self._registry, self._settings, self._workers, self._folder)
        combiner_pb2_grpc.add_CombinerServiceServicer_to_server(servicer, server)

    async def start(self) -> Mapping[str, object]:
        """Look at the folder, load and run what is to be preloaded.

        Raises:
            StartupError: The folder, the device or a combiner that is to be preloaded cannot be used.
        """
        facts = await asyncio.get_running_loop().run_in_executor(self._folder, self._start)
        self._workers.start()
        return facts

    async def close(self) -> None:
        """Answer what waits, then stop the threads."""
        await self._workers.close()
        await asyncio.to_thread(self._folder.shutdown, cancel_futures=True)

    def collectors(self) -> Sequence[Collector]:
        """Batches, waiting, networks; see docs/combiners.md."""
        return self._metrics.collectors()

    def progress(self) -> Mapping[str, Progress]:
        """The workers."""
        return {"combiner workers": self._queue.progress}

    def _load(self, entry: CheckpointEntry) -> Composer:
        # Imported here, so that their runtime is only needed where a network is used.
        from combiner_service.network_loading import LoadOptions, load_composer

        settings = self._settings
        options = LoadOptions(
            device=settings.device,
            weight_type=settings.network_weights,
            min_cosine=settings.min_weights_cosine,
            max_threads=settings.threads_per_call,
        )
        return load_composer(entry.path, entry.info, options)

    def _start(self) -> Mapping[str, object]:
        settings = self._settings
        self._check_folder()
        device = self._check_device()
        # The default combiner is what most calls use: it must work, and is ready before the first call.
        wanted = list(dict.fromkeys((settings.default_combiner, *settings.preload)))
        networks = [name for name in wanted if is_checkpoint(name)]
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
            "max_waiting_items": settings.max_waiting_items,
            "max_forward_items": settings.max_forward_items,
            "device": device,
            "network_weights": settings.network_weights.value,
            "threads": settings.threads_per_call if settings.checkpoint_dirs else 0,
        }

    def _check_folder(self) -> None:
        folder = self._settings.checkpoint_dir
        if not self._settings.checkpoint_dirs:
            return
        if folder is not None and (not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK)):
            raise StartupError(
                f"checkpoint_dir {folder} is not a folder that can be read; create it, or leave the setting "
                f"out to serve the combiners without a checkpoint alone: {', '.join(self._registry.named)}"
            )
        missing = [module for module in ("openvino", "safetensors") if find_spec(module) is None]
        if missing:
            raise StartupError(
                f"checkpoint_dir is set but {not_installed(missing, 'combiner')}, or leave the setting out"
            )

    def _check_device(self) -> str:
        """Return the device of networks; one that was asked for by name must be there."""
        if not self._settings.checkpoint_dirs:
            return self._settings.device
        from combiner_service.network_loading import choose_device

        try:
            return choose_device(self._settings.device)
        except ValueError as error:
            raise StartupError(str(error)) from error

    def _warm_up(self, name: str) -> None:
        try:
            combiner = self._registry.get(name)
            row = np.ones((1, combiner.info.dimension or 1), dtype=np.float32)
            (outcome,) = combiner.combine_all([Pairs(row, row)])
            if isinstance(outcome, CombinerError):
                raise outcome
        except CombinerError as error:
            raise StartupError(str(error)) from error
