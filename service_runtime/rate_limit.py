"""Rate limits: a token bucket per caller, in memory that does not grow with the number of callers."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import unquote

MAX_CALLERS = 10_000


class TokenBuckets:
    """A bucket of `burst` tokens for each caller, refilled with `per_second` tokens a second.

    Kept as one number a caller, the time at which its bucket is full again (the generic cell rate
    algorithm, ITU-T I.371). A full bucket is the same as none, so nothing is kept of callers that have been
    quiet; beyond `max_callers` busy ones the least recently used are evicted and start with a full bucket.
    """

    def __init__(
        self,
        per_second: float,
        burst: int,
        *,
        max_callers: int = MAX_CALLERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._refill = 1.0 / per_second
        self._depth = burst * self._refill
        self._max_callers = max_callers
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """Number of callers with a bucket that is not full."""
        return len(self._full_at)

    def take(self, caller: str) -> float:
        """Take a token: return 0 when there was one, else the seconds until there is one (and take none)."""
        now = self._clock()
        full_at = max(self._full_at.pop(caller, now), now) + self._refill
        wait = full_at - self._depth - now
        if wait > 1e-9:  # less is the rounding of a clock's large numbers
            self._full_at[caller] = full_at - self._refill
            return wait
        self._full_at[caller] = full_at
        self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        """Drop full buckets from the quiet end, and those above the bound."""
        while self._full_at:
            caller, full_at = next(iter(self._full_at.items()))
            if full_at > now and len(self._full_at) <= self._max_callers:
                return
            del self._full_at[caller]


def peer_name(peer: str) -> str:
    """Return the name that a gRPC peer ("ipv4:10.0.0.7:4242") is counted under: its address without the port.

    IPv6 addresses are counted by their /64, since one host can choose from all of it.
    """
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return peer
    return host_name(unquote(rest).rpartition(":")[0].strip("[]"))


def host_name(address_text: str) -> str:
    """Return the name that an IP address is counted under; a text that is none is its own name."""
    host = address_text.partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((address, 64), strict=False))
    return host
