"""Who calls, and whether it may: API key, scope and rate, before anything else is done for a call."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from cir.api_key import HEADER
from cir.common.v1 import errors_pb2 as pb
from service_runtime.api_keys import ApiKey, KeyRing, Scope, key_ring
from service_runtime.errors import ServiceError
from service_runtime.rate_limit import TokenBuckets, peer_name
from service_runtime.settings import ServiceSettings

_key: ContextVar[ApiKey | None] = ContextVar("api_key", default=None)


def calling_key() -> ApiKey | None:
    """The entry of the key that the call being served came with; None where no keys are used."""
    return _key.get()


class Gate:
    """Keys, scopes and rates of one service."""

    def __init__(
        self,
        *,
        keys: KeyRing | None = None,
        buckets: TokenBuckets | None = None,
        write_methods: Collection[str] = (),
    ) -> None:
        self._keys = keys
        self._buckets = buckets
        self._write_methods = frozenset(write_methods)

    def identify(
        self, method: str, metadata: Sequence[tuple[str, str | bytes]] | None
    ) -> ApiKey | ServiceError | None:
        """The key's entry, why the call is refused, or None where no keys are used.

        Needs the call's metadata alone, so a refused call costs no reading of its message.
        """
        if self._keys is None:
            return None
        sent = next((value for name, value in metadata or () if name == HEADER), None)
        if not isinstance(sent, str):
            return ServiceError(pb.KEY_MISSING, f"an API key is needed; send one as metadata `{HEADER}`")
        key = self._keys.find(sent)
        if key is None:
            return ServiceError(
                pb.KEY_MISSING, "the API key is not known; ask the operator of this service for one"
            )
        if method in self._write_methods and key.scope is not Scope.WRITE:
            return ServiceError(
                pb.SCOPE_MISSING,
                f"the API key {key.name} has the scope {key.scope.value}, this call needs write; "
                "use a key of the scope write",
            )
        return key

    def spend(self, key: ApiKey | None, peer: str) -> None:
        """Count the call against its key's or its peer's rate. Raises `ServiceError` (RATE_LIMITED)."""
        if self._buckets is None:
            return
        caller = f"key {key.name}" if key is not None else f"peer {peer_name(peer)}"
        wait = self._buckets.take(caller)
        if wait:
            raise ServiceError(
                pb.RATE_LIMITED,
                f"{caller} sends more calls than its rate allows; the next is taken in {wait:.3f} s",
                retry_after=wait,
            )


def gate_of(settings: ServiceSettings, write_methods: Collection[str]) -> Gate:
    """The gate that the settings describe. Raises `StartupError` for keys that cannot be read."""
    rate = settings.rate_limit_per_second
    return Gate(
        keys=key_ring(settings),
        buckets=TokenBuckets(rate, settings.rate_limit_burst) if rate else None,
        write_methods=write_methods,
    )


@contextmanager
def called_with(key: ApiKey | None) -> Iterator[None]:
    """Have `calling_key` answer `key` within the block."""
    token = _key.set(key)
    try:
        yield
    finally:
        try:
            _key.reset(token)
        except ValueError:
            # A stream that is torn down is closed from another context; that context goes with it.
            _key.set(None)
