"""The engine's errors, which it raises as bare `Exception` with a text, as errors of the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vector_store.errors import StoreError, StoreLocked, StoreUnavailable


@contextmanager
def engine_errors(act: str) -> Iterator[None]:
    """Run engine calls; `act` says what was being done ('open catalog ...'), for the message."""
    try:
        yield
    except StoreError:
        raise
    except BaseException as error:
        # A panic of the engine is no `Exception`; without this it would pass every handler above.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "WouldBlock" in text:
            raise StoreLocked(
                f"cannot {act}: another process has its files open; stop that process, or ask the search "
                "service that owns the store"
            ) from error
        raise StoreUnavailable(f"cannot {act}: {text}") from error
