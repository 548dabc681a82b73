"""API keys: made, hashed, and sent as metadata of each call."""

from __future__ import annotations

import hashlib
import secrets

from cir.errors import InvalidArgument

HEADER = "x-api-key"
_PREFIX = "cir_"
_RANDOM_BYTES = 32


def new_key() -> str:
    """A key of 256 random bits that can be sent as it is."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def digest(api_key: str) -> bytes:
    """SHA-256 of a key: what a service keeps of it. Enough for random keys, which nobody can guess."""
    return hashlib.sha256(api_key.encode(errors="surrogateescape")).digest()


def metadata(api_key: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call; empty without a key. Raises `InvalidArgument` for a key that cannot be sent."""
    if not api_key:
        return ()
    if not (api_key.isascii() and api_key.isprintable()):
        raise InvalidArgument("an API key has printable ASCII characters only", reason="KEY_MISSING")
    return ((HEADER, api_key),)
