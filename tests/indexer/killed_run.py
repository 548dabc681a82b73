"""A run of the indexer in a process of its own, to be killed.

Arguments: FOLDER STORE LEDGER ADDRESS CALLS_IN_FLIGHT RETRY_SECONDS.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from indexer import FolderSource, IndexingOptions, index
from vector_store import open_store


async def main(folder: str, store_url: str, ledger: str, address: str, calls: str, retry: str) -> None:
    options = IndexingOptions(
        ledger_path=Path(ledger),
        calls_in_flight=int(calls),
        write_items=3,
        connect_seconds=5.0,
        retry_seconds=float(retry),
        keep_features=True,
    )
    async with open_store(store_url) as store:
        await index(FolderSource(Path(folder)), "shop", store, address, options)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
