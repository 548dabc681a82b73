"""Partitions as tasks of a Ray cluster: embedded wherever there is room, merged here.

Everything that makes a run sound is in the parts (`indexer.part_run`, `indexer.part_run`); Ray only decides
where a partition runs and starts it again when its worker is lost. Such a partition goes on from its own
ledger in the shared folder.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from cir.extras import install
from indexer.errors import IndexingError, PartsError
from indexer.items import Change
from indexer.options import IndexingOptions
from indexer.part_run import embed_part, finish
from indexer.partition import Partition
from indexer.progress import Progress, SilentProgress
from indexer.report import IndexReport, PartReport, Tally, part_report_text
from indexer.run import check_name
from indexer.sources.base import Source
from vector_store.base import VectorStore

# How often a partition is started again after its worker died.
WORKER_RETRIES = 5


async def index_on_ray(
    source: Source,
    catalog: str,
    store: VectorStore,
    embedder_address: str,
    folder: Path,
    *,
    partitions: int,
    ray_address: str = "",
    options: IndexingOptions | None = None,
    progress: Progress | None = None,
) -> IndexReport:
    """`index`, with the embedding spread over a Ray cluster in `partitions` tasks of one CPU each.

    `ray_address` is what `ray.init` takes ("auto", "host:port"); empty: a Ray that is initialised or that
    RAY_ADDRESS names, else one of this machine for the time of the run. All hosts must have this package,
    and see the source, `folder` and the embedder under the same names. The store is met from here only.

    A partition that fails does not stop the others; afterwards `PartsError` tells of all that failed, nothing
    is published, and the next run does what is missing.

    Raises:
        IndexingError: the run cannot be carried out.
    """
    options, progress = options or IndexingOptions(), progress or SilentProgress()
    check_name(catalog)
    work = [Partition(number, partitions) for number in range(1, partitions + 1)]
    try:
        facts = await asyncio.to_thread(source.survey, options.columns)
        progress.start(facts.total)
        async with _cluster(ray_address) as ray:
            embed = ray.remote(num_cpus=1, max_retries=WORKER_RETRIES, scheduling_strategy="SPREAD")(_embed)
            tasks = {
                partition: embed.remote(source, catalog, embedder_address, partition, folder, options)
                for partition in work
            }
            try:
                await _collect(ray, tasks, progress)
            except BaseException:
                for task in tasks.values():
                    with suppress(Exception):
                        ray.cancel(task, force=True)
                raise
        return await finish(source, catalog, store, folder, options, progress)
    finally:
        progress.stop()


async def _collect(ray: Any, tasks: dict[Partition, Any], progress: Progress) -> None:
    tally, failures = Tally(), dict[Partition, str]()

    async def one(partition: Partition, task: Any) -> None:
        try:
            report: PartReport = await asyncio.wrap_future(task.future())
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, IndexingError):
                raise
            failures[partition] = str(error.cause)
        except ray.exceptions.RayError as error:
            failures[partition] = f"its worker was lost {WORKER_RETRIES + 1} times, last with: {error}"
        else:
            tally.found += report.read
            tally.changes.update({Change.NEW: report.indexed, Change.UNCHANGED: report.unchanged})
            tally.rejects.update(report.reject_reasons)
            progress.stage(part_report_text(report))
            progress.advance(tally)

    async with asyncio.TaskGroup() as group:
        for partition, task in tasks.items():
            group.create_task(one(partition, task))
    if failures:
        reasons = "; ".join(f"{partition}: {text}" for partition, text in sorted(failures.items(), key=str))
        raise PartsError(
            f"{len(failures)} of {len(tasks)} partitions failed, nothing was published, and the parts of the "
            f"others are kept for the next run. {reasons}"
        )


def _embed(
    source: Source,
    catalog: str,
    embedder_address: str,
    partition: Partition,
    folder: Path,
    options: IndexingOptions,
) -> PartReport:
    # Its rejects go next to the part: the file that the options name is that of the whole run.
    mine = replace(options, rejects_path=None)
    return asyncio.run(embed_part(source, catalog, embedder_address, partition, folder, mine))


@asynccontextmanager
async def _cluster(address: str) -> AsyncIterator[Any]:
    """Ray, connected; what was started here is stopped at the end."""
    # Without asking, it would tell its makers how it is used.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise IndexingError(
            f"the engine ray needs the package ray; {install('ray')}, here and on every host of the cluster"
        ) from error
    if ray.is_initialized():
        yield ray
        return
    where = address or os.environ.get("RAY_ADDRESS", "")
    given: dict[str, Any] = {"address": where}
    if not where:
        given = {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        await asyncio.to_thread(ray.init, log_to_driver=False, logging_level="WARNING", **given)
    except Exception as error:  # Ray raises it bare when a node does not come up
        raise IndexingError(
            f"the Ray cluster at {where or 'this machine'} cannot be used: {error}; start one with "
            "`ray start --head`, or name another with `ray_address`"
        ) from error
    try:
        yield ray
    finally:
        await asyncio.shield(asyncio.to_thread(ray.shutdown))
