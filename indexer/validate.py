"""Validation of items: usable ids, each once, with a payload that fits the schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b

from cir.limits import MAX_PAYLOAD_BYTES, item_id_problem
from indexer.rejects import ID_DUPLICATE, ID_INVALID, PAYLOAD_INVALID, Reject
from indexer.sources.base import SourceItem
from vector_store.errors import InvalidQueryError
from vector_store.types import FieldType, Payload
from vector_store.validation import check_payload


def validate_items(
    found: Iterable[SourceItem | Reject], schema: Mapping[str, FieldType]
) -> Iterator[SourceItem | Reject]:
    """Pass items through, turning those that no version can hold into rejects.

    The first item of an id is taken and later ones are rejected. Remembering the ids costs about 100 bytes
    an item; nothing else grows with the source.
    """
    seen: set[bytes] = set()
    for item in found:
        if isinstance(item, Reject):
            yield item
            continue
        if problem := item_id_problem(item.id):
            message = f"id {item.id!r}: {problem}; rename the file, or give the item another id"
            yield _reject(item, ID_INVALID, message)
            continue
        digest = blake2b(item.id.encode(), digest_size=16).digest()
        if digest in seen:
            yield _reject(item, ID_DUPLICATE, f"the id {item.id!r} came before; ids must be unique")
            continue
        seen.add(digest)
        try:
            check_payload(item.payload, schema, item=item.id)
        except InvalidQueryError as error:
            yield _reject(item, PAYLOAD_INVALID, str(error))
            continue
        if (size := payload_bytes(item.payload)) > MAX_PAYLOAD_BYTES:
            message = f"the payload has {size} bytes; expected at most {MAX_PAYLOAD_BYTES}"
            yield _reject(item, PAYLOAD_INVALID, message)
            continue
        yield item


def payload_bytes(payload: Payload) -> int:
    """About how large a payload is: the UTF-8 bytes of its JSON."""
    return len(json.dumps(payload, ensure_ascii=False, default=str).encode())


def _reject(item: SourceItem, reason: str, message: str) -> Reject:
    return Reject(item.id, item.image, reason, f"{item.where}: {message}" if item.where else message)
