"""Blocking work off the event loop: on threads, or in a process of its own that ends with this one."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, TypeVarTuple, Unpack

from vector_store.edge import optimize
from vector_store.errors import StoreUnavailableError

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

# The engine holds the interpreter lock for most of a call, so more threads would not answer faster; these
# keep a long call from blocking the short ones behind it.
_THREADS = 4


class StoreExecutor:
    """The threads of one embedded store."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="vector-store")

    async def run(self, call: Callable[[Unpack[Arguments]], T], *arguments: *Arguments) -> T:
        """Run `call(*arguments)` on a thread; `OSError` and damaged files become `StoreUnavailableError`."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, call, *arguments)
        except OSError as error:
            raise StoreUnavailableError(
                f"cannot use the store's files: {error}; check that the folder exists and may be written"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise StoreUnavailableError(f"a file of the store is damaged: {error!r}") from error

    def close(self) -> None:
        """Let running calls finish and start no more."""
        self.pool.shutdown(wait=False)


async def optimize_in_subprocess(
    shard: Path, *, int8_dimension: int | None, on_disk: bool, nice: int, act: str, advice: str
) -> None:
    """Build the index of the shard at `shard`; see `optimize.optimize`. `nice` lowers its priority.

    A cancelled call ends the process.

    Raises:
        StoreUnavailableError: it failed; `act` ('building the index of ...') and `advice` are in the message.
    """
    process = await asyncio.create_subprocess_exec(
        # -P: the folder of the file must not become an import path.
        sys.executable,
        "-P",
        optimize.__file__,
        str(shard),
        str(int8_dimension or 0),
        str(nice),
        str(os.getpid()),
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
        raise StoreUnavailableError(f"{act} ended with exit code {process.returncode}: {last[0]}; {advice}")
