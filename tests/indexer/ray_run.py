"""Two runs on a Ray of two workers, in a process of their own: FOLDER STORE PARTS ADDRESS.

In the first one, a worker that is nearly through its source is killed. Prints a list of two summaries.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from indexer import FolderSource, IndexingError, IndexingOptions
from indexer.ray_engine import index_on_ray
from indexer.rejects import Reject
from indexer.sources.base import SourceItem
from vector_store import open_store

PARTITIONS = 3


class Deadly(FolderSource):
    """Kills the first worker that comes near its end."""

    def __init__(self, root: Path, marker: Path) -> None:
        super().__init__(root)
        self._marker = marker
        self._driver = os.getpid()

    def items(self) -> Iterator[SourceItem | Reject]:
        found = list(super().items())
        # Workers pass through the items to read them alone; counting them looks at the folder itself.
        reading = os.getpid() != self._driver
        for number, item in enumerate(found):
            if reading and number == len(found) - 3:
                try:
                    self._marker.touch(exist_ok=False)
                except FileExistsError:
                    reading = False
                else:
                    os.kill(os.getpid(), signal.SIGKILL)
            yield item


async def run(source: FolderSource, store_url: str, parts: str, address: str) -> dict[str, Any]:
    options = IndexingOptions(ledger_path=Path(f"{parts}.sqlite"), connect_seconds=5.0)
    async with open_store(store_url) as store:
        try:
            report = await index_on_ray(
                source, "shop", store, address, Path(parts), partitions=PARTITIONS, options=options
            )
        except IndexingError as error:
            return {"error": str(error)}
        return report.document()


async def main(folder: str, store_url: str, parts: str, address: str) -> None:
    source = Deadly(Path(folder), Path(parts).with_name("killed"))
    # By the second run the marker is there, so nobody is killed any more.
    summaries = [await run(source, store_url, parts, address) for _ in range(2)]
    print(json.dumps(summaries))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as scratch:
        try:
            ray.init(
                num_cpus=2,
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                _temp_dir=scratch,
                object_store_memory=80_000_000,
                log_to_driver=False,
            )
        except Exception as error:  # bare, when a node does not come up in its time
            raise SystemExit(f"NO RAY: {error}") from None
        asyncio.run(main(*sys.argv[1:]))
        ray.shutdown()
