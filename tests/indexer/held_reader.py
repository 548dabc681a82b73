"""Holds the published version of a store, as a search service does: STORE. Says "open" when it has it."""

from __future__ import annotations

import asyncio
import sys

from vector_store import open_store


async def main(store_url: str) -> None:
    async with open_store(store_url) as store, store.open_version("shop"):
        print("open", flush=True)
        await asyncio.sleep(300)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
