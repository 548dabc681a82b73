"""Division of the work of `cir index`: none, one partition, the merging of all, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cir_cli.errors import WrongUsage


class Engine(StrEnum):
    """The place that the embedding is driven from."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True, slots=True)
class Division:
    """Work that is divided over parts in `folder`: exactly one of `partition`, `finish` and `ray_partitions`
    is set."""

    folder: Path
    partition: str = ""
    finish: bool = False
    ray_partitions: int = 0
    ray_address: str = ""


def read_division(
    *,
    engine: Engine,
    parts: Path | None,
    partition: str,
    finish: bool,
    partitions: int,
    ray_address: str,
    of_whole_runs: Mapping[str, bool],
) -> Division | None:
    """Read what the flags ask for; None for a run that is not divided.

    `of_whole_runs` are flags that say something about the catalog, and whether they were given: a single
    partition never meets the catalog.

    Raises:
        Failure: flags that contradict each other.
    """
    ray = engine is Engine.RAY
    asked = [
        flag
        for flag, given in (("--partition", bool(partition)), ("--finish", finish), ("--engine ray", ray))
        if given
    ]
    if len(asked) > 1:
        raise WrongUsage(f"{' and '.join(asked)} exclude each other; give one of them")
    if ray_address and not ray:
        raise WrongUsage("--ray-address needs --engine ray")
    if not asked:
        if parts is not None:
            raise WrongUsage("--parts needs one of --partition i/n, --finish and --engine ray")
        return None
    if parts is None:
        raise WrongUsage(f"{asked[0]} needs --parts FOLDER, a folder that all partitions share")
    if partition and (wrong := [flag for flag, given in of_whole_runs.items() if given]):
        raise WrongUsage(f"{wrong[0]} says something about the whole catalog; give it with --finish")
    if ray and of_whole_runs.get("--dry-run"):
        raise WrongUsage("--dry-run needs the engine local: it embeds nothing")
    return Division(parts, partition, finish, partitions if ray else 0, ray_address)
