"""Hashes that tell whether an item is still the same. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from vector_store.types import Payload


def content_hash(content: bytes) -> str:
    """The identity of a picture's bytes: BLAKE2b, 40 hexadecimal digits."""
    return blake2b(content, digest_size=20).hexdigest()


def payload_hash(payload: Payload, image: str) -> str:
    """The identity of everything stored with an item but its vector; the order of fields does not matter."""
    text = json.dumps([image, _plain(payload)], sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=20).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(name): _plain(element) for name, element in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(element) for element in value]
    return value
