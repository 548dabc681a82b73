"""How an API key travels: as metadata of each call."""

from __future__ import annotations

from cir.errors import InvalidArgument

HEADER = "x-api-key"


def metadata(api_key: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call; empty without a key. Raises `InvalidArgument` for a key that cannot be sent."""
    if not api_key:
        return ()
    if not (api_key.isascii() and api_key.isprintable()):
        raise InvalidArgument("an API key has printable ASCII characters only", reason="KEY_MISSING")
    return ((HEADER, api_key),)
