"""Settings of the combiner service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from cir.limits import DEFAULT_COMBINER
from combiner_service.builtin import builtin_names
from combiner_service.network_spec import WeightType
from service_runtime.settings import ServiceSettings

# The checkpoints that come with the software.
SHIPPED_CHECKPOINTS = Path(__file__).parent / "shipped"


class CombinerSettings(ServiceSettings):
    """The combiner service: from image and text features to a query vector."""

    model_config = SettingsConfigDict(env_prefix="CIR_COMBINER_", extra="forbid", env_ignore_empty=True)
    program: ClassVar[str] = "combiner_service"
    of_clients: ClassVar[frozenset[str]] = frozenset({"service"})

    port: int = Field(50052, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    checkpoint_dir: Path | None = Field(
        None,
        description="Folder of checkpoints, each served as combiner/NAME; `shipped` is the folder that comes "
        f"with the software, for the shipped CLIP. Unset: {', '.join(builtin_names())} and plug-ins alone.",
    )
    adapted_checkpoint_dir: Path | None = Field(
        None,
        description="Further folder of checkpoints, where `cir adapt` puts those that it makes; it may be "
        "made later.",
    )
    shipped_checkpoints: bool = Field(
        False,
        description="Serve the checkpoints that come with the software, too; one of the same name in another "
        "folder takes the place of theirs.",
    )
    checkpoint_fingerprints: dict[str, str] = Field(
        default_factory=dict,
        description="Model fingerprint by checkpoint name (without combiner/), for published files, which "
        'carry none, as JSON: {"NAME": "FINGERPRINT"}. Without it such a file takes features of any model '
        "that have its dimension.",
    )
    default_combiner: str = Field(DEFAULT_COMBINER, description="Combiner for requests that name none.")
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
    worker_threads: int = Field(
        2,
        ge=1,
        description="Combiners that are computed at the same time; one network is never computed twice.",
    )
    max_waiting_items: int = Field(
        4096,
        ge=1,
        description="Pairs that may wait for a worker, over all calls; more are refused as OVERLOADED.",
    )
    max_forward_items: int = Field(
        256,
        ge=1,
        description="Pairs of one network that are computed at once, gathered over the calls that wait "
        "for it; 1 computes each call on its own.",
    )
    checkpoint_scan_seconds: float = Field(
        0.5,
        ge=0,
        description="Seconds for which a look at the folder of checkpoints holds; 0 looks on every call.",
    )
    max_checkpoint_bytes: int = Field(
        4 * 1024**3, ge=1, description="Largest checkpoint that is read, in bytes."
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$",
        description="Where networks run: cpu, cuda, cuda:N, or auto: CUDA if there is one and torch is "
        "installed.",
    )
    network_weights: WeightType = Field(
        WeightType.FLOAT32,
        description="How networks are held: float32, bfloat16 or int8 (CPU alone). The narrow ones are "
        "faster for small batches; each network is compared with float32 when it is loaded.",
    )
    min_weights_cosine: float = Field(
        0.999,
        ge=-1,
        le=1,
        description="Smallest cosine to float32 with which narrow weights are used; below it the network is "
        "held in float32, and the log says so.",
    )
    threads: int = Field(
        0, ge=0, description="Most threads of one computation of a network; 0 takes every core."
    )

    @field_validator("checkpoint_dir")
    @classmethod
    def _find_shipped(cls, value: Path | None) -> Path | None:
        return SHIPPED_CHECKPOINTS if value == Path("shipped") else value

    @property
    def checkpoint_dirs(self) -> tuple[Path, ...]:
        """The folders of checkpoints that are set."""
        folders = (self.checkpoint_dir, self.adapted_checkpoint_dir, self.fallback_dir)
        return tuple(each for each in folders if each is not None)

    @property
    def fallback_dir(self) -> Path | None:
        """The folder whose checkpoints give way to those of the same name in others."""
        is_further = self.shipped_checkpoints and self.checkpoint_dir != SHIPPED_CHECKPOINTS
        return SHIPPED_CHECKPOINTS if is_further else None

    @property
    def threads_per_call(self) -> int:
        """`threads`, or every core that this process may use."""
        return self.threads or len(os.sched_getaffinity(0))
