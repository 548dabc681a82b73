"""Validation of items: usable ids, each once, with a usable location and a payload that fits the schema."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b

from cir.fields import FieldType
from cir.limits import item_id_problem, location_problem
from indexer.rejects import ID_DUPLICATE, ID_INVALID, LOCATION_INVALID, PAYLOAD_INVALID, Reject
from indexer.sources.base import SourceItem
from vector_store.errors import InvalidQueryError
from vector_store.validation import parse_payload


def validate_items(
    found: Iterable[SourceItem | Reject], schema: Mapping[str, FieldType]
) -> Iterator[SourceItem | Reject]:
    """Pass items through, payloads as they are stored; those that no version can hold become rejects.

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
        if problem := location_problem(item.image) or location_problem(str(item.image_ref)):
            message = f"image location {item.image!r}: {problem}; rename the file or its folder"
            yield _reject(item, LOCATION_INVALID, message)
            continue
        try:
            payload = parse_payload(item.payload, schema, item=item.id)
        except InvalidQueryError as error:
            yield _reject(item, PAYLOAD_INVALID, str(error))
            continue
        yield replace(item, payload=payload)


def _reject(item: SourceItem, reason: str, message: str) -> Reject:
    return Reject(item.id, item.image, reason, f"{item.where}: {message}" if item.where else message)
