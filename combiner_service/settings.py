"""Settings of the combiner service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from service_runtime.settings import ServiceSettings


class CombinerSettings(ServiceSettings):
    """The combiner service: from image and text features to a query vector."""

    model_config = SettingsConfigDict(env_prefix="CIR_COMBINER_", extra="forbid", env_ignore_empty=True)
    program: ClassVar[str] = "combiner_service"

    port: int = Field(50052, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    checkpoint_dir: Path | None = Field(
        None,
        description="Folder of checkpoints, each served as combiner/NAME. Unset: sum, slerp, image and "
        "text alone, and torch is not needed.",
    )
    checkpoint_fingerprints: dict[str, str] = Field(
        default_factory=dict,
        description="Model fingerprint by checkpoint name (without combiner/), for published files, which "
        'carry none, as JSON: {"NAME": "FINGERPRINT"}. Without it such a file takes features of any model '
        "that have its dimension.",
    )
    default_combiner: str = Field("sum", description="Combiner for requests that name none.")
    preload: list[str] = Field(
        default_factory=list,
        description="Checkpoints to load before the service is ready, by combiner name; the others are "
        "loaded on their first use.",
    )
    max_loaded_networks: int = Field(
        4, ge=1, description="Networks held in memory; the least recently used makes room for the next."
    )
    max_batch_items: int = Field(1024, ge=1, description="Pairs of features in one call.")
    max_dimension: int = Field(4096, ge=1, description="Values per feature vector.")
    worker_threads: int = Field(2, ge=1, description="Calls that are computed at the same time.")
    torch_threads: int = Field(
        0, ge=0, description="Threads of torch in each computation; 0 shares the cores among the workers."
    )

    @property
    def torch_threads_per_call(self) -> int:
        """`torch_threads`, or the share of one worker in the cores that this process may use."""
        return self.torch_threads or max(1, len(os.sched_getaffinity(0)) // self.worker_threads)
