"""Building the index of a closed shard in a process of its own, which ends with this one."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from vector_store import edge_optimize
from vector_store.errors import StoreUnavailable


async def optimize_in_child(
    shard: Path, *, int8_dimension: int | None, on_disk: bool, nice: int, act: str, advice: str
) -> None:
    """Build the index of the shard at `shard`; see `edge_optimize.optimize`. `nice` lowers its priority.

    A cancelled call ends the process. Raises `StoreUnavailable` when it fails, with `act` ('building the
    index of ...') and `advice` in the message.
    """
    process = await asyncio.create_subprocess_exec(
        # -P: the folder of the file must not become an import path.
        *(sys.executable, "-P", edge_optimize.__file__),
        *(str(shard), str(int8_dimension or 0), str(nice), str(os.getpid())),
        "disk" if on_disk else "memory",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, errors = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
        await process.wait()
        raise
    if process.returncode:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise StoreUnavailable(f"{act} ended with exit code {process.returncode}: {last[0]}; {advice}")
