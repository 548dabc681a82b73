"""One run of the indexer in a fresh process: FOLDER DATA ADDRESS. Prints its report as JSON, with seconds."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from indexer import FolderSource, IndexingOptions, index
from vector_store import open_store


async def main(folder: str, data: str, address: str) -> None:
    """Index, as `cir index` does for an embedded store."""
    options = IndexingOptions(ledger_path=Path(data, "ledger.sqlite"), keep_features=True)
    started = time.perf_counter()
    async with open_store(f"edge://{data}") as store:
        report = await index(FolderSource(Path(folder)), "benchmark", store, address, options)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "published": report.published, "read": report.read}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
