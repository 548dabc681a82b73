"""Running blocking work on threads, with file errors as errors of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple, Unpack

from vector_store.errors import StoreUnavailable

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

# The engine holds the interpreter lock for most of a call, so more threads would not answer faster; these
# keep a long call from blocking the short ones behind it.
_THREADS = 4


class BlockingCalls:
    """The threads of one embedded store."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="vector-store")

    async def run(self, call: Callable[[Unpack[Arguments]], T], *arguments: *Arguments) -> T:
        """`call(*arguments)` on a thread; `OSError` and damaged files become `StoreUnavailable`."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self.executor, call, *arguments)
        except OSError as error:
            raise StoreUnavailable(
                f"cannot use the store's files: {error}; check that the folder exists and may be written"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise StoreUnavailable(f"a file of the store is damaged: {error!r}") from error

    def close(self) -> None:
        """Let running calls finish and start no more."""
        self.executor.shutdown(wait=False)
