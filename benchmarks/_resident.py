"""Memory of an open version, measured in a process that has done nothing else."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path

from benchmarks._clusters import Vectors
from vector_store import open_store

_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+ *(.*)")
_VECTORS = "vector_storage/matrix.dat"


def resident_bytes(root: str, catalog: str, queries: Vectors, limit: int) -> dict[str, int]:
    """What opening and searching the published version added to this process. Linux only.

    `own` is memory that cannot be dropped; compressed vectors are in it. `vectors` are pages of the file of
    the full vectors, `other_files` those of all other mapped files; the system drops them when it needs the
    memory, and reads them again.
    """

    async def run() -> dict[str, int]:
        before = _resident()
        async with open_store(f"edge://{root}") as store, store.open_version(catalog) as reader:
            for query in queries:
                await reader.query(query, limit=limit)
            after = _resident()
        return {name: after[name] - before[name] for name in after}

    return asyncio.run(run())


def _resident() -> dict[str, int]:
    by_kind = Counter({"own": 0, "vectors": 0, "other_files": 0})
    kind = "own"
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if mapping := _MAPPING.fullmatch(line):
            path = mapping[1]
            kind = "vectors" if path.endswith(_VECTORS) else "other_files" if path.startswith("/") else "own"
        elif line.startswith("Rss:"):
            by_kind[kind] += 1024 * int(line.split()[1])
    return dict(by_kind)
