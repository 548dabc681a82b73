"""A run of the indexer in a process of its own, to be killed: FOLDER STORE LEDGER ADDRESS."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from indexer import FolderSource, IndexingOptions, index
from vector_store import open_store


async def main(folder: str, store_url: str, ledger: str, address: str) -> None:
    options = IndexingOptions(
        ledger_path=Path(ledger), calls_in_flight=1, write_items=3, connect_seconds=5.0, keep_features=True
    )
    async with open_store(store_url) as store:
        await index(FolderSource(Path(folder)), "shop", store, address, options)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
