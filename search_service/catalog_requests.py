"""Requests about a catalog's items, parsed once at the door into values that are valid by construction. Pure.

Lists, facets, writes, updates (AIP-134, AIP-161) and deletions. In a batch each bad item fails alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.field_mask_pb2 import FieldMask

from cir.common.v1 import errors_pb2 as errors
from cir.fields import Payload, PayloadValue
from cir.limits import (
    MAX_ITEM_ID_BYTES,
    MAX_LOCATION_BYTES,
    MAX_PAYLOAD_BYTES,
    location_problem,
    payload_problem,
)
from cir.search.v1 import catalog_pb2 as pb
from cir.update_mask import MAX_PATHS, payload_field
from search_service.convert import parse_payload
from search_service.filters import parse_filter
from search_service.names import check_item_id, parse_catalog
from search_service.request import (
    FeaturesReference,
    ImageReference,
    check_count,
    parse_features,
    parse_item_ids,
)
from search_service.settings import SearchSettings
from service_runtime.errors import ServiceError
from service_runtime.page_token import PageToken, check_page_size, invalid_page_token, request_digest
from vector_store.filters import Filter

DEFAULT_FACET_VALUES = 20
MAX_FACETS = 16

# A payload on the wire has at most this many times the bytes of its JSON: -1 in a list has 13 in place of 4.
_WIRE_TO_JSON = 4
# Bytes of id and location that are looked at; more are refused unread.
_MAX_NAMES_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ItemsPage:
    """A page of a listing of items; `start` tells its version ('' for the published one) and its cursor."""

    catalog: str
    start: PageToken
    size: int
    where: Filter | None
    with_features: bool
    digest: bytes


@dataclass(frozen=True, slots=True)
class FacetQuery:
    """The commonest values of fields, at most `limit` of each."""

    catalog: str
    fields: tuple[str, ...]
    limit: int
    where: Filter | None


@dataclass(frozen=True, slots=True)
class Deletion:
    """Items to delete, by id or by a filter that has a condition. `validate_only` counts them alone."""

    catalog: str
    which: list[str] | Filter
    validate_only: bool


@dataclass(frozen=True, slots=True)
class ItemWrite:
    """An item to write; `index` is its place in the request, `image` the location of its image."""

    index: int
    item_id: str
    payload: Payload
    image: str
    source: ImageReference | FeaturesReference


@dataclass(frozen=True, slots=True)
class UpdateMask:
    """Parts of an item that change: `payload` and `image` as wholes, `fields` of the payload one by one."""

    payload: bool
    fields: tuple[str, ...]
    image: bool

    def apply(self, stored: Payload, given: Mapping[str, PayloadValue]) -> Payload:
        """Return an item's payload after the update."""
        if self.payload:
            return given
        kept = {name: value for name, value in stored.items() if name not in self.fields}
        return kept | {name: given[name] for name in self.fields if name in given}


@dataclass(frozen=True, slots=True)
class ItemUpdate:
    """A change of an item; `index` is its place in the request, `image` the location of its image."""

    index: int
    item_id: str
    payload: Payload
    image: str
    mask: UpdateMask


def parse_list_items(message: pb.ListItemsRequest, settings: SearchSettings) -> ItemsPage:
    """Parse a request for a page of items.

    Raises:
        ServiceError: A name, size, filter or page token cannot be served.
    """
    catalog = parse_catalog(message.parent, field="parent")
    size = check_page_size(message.page_size)
    where = parse_filter(message.filter, max_conditions=settings.max_filter_conditions)
    digest = request_digest(message, "page_token", "page_size", "with_features")
    start = PageToken("", "")
    if message.page_token and not (start := PageToken.decode(message.page_token, digest)).created:
        raise invalid_page_token()
    return ItemsPage(
        catalog=catalog,
        start=start,
        size=size,
        where=where or None,
        with_features=message.with_features,
        digest=digest,
    )


def parse_facets(message: pb.FacetItemsRequest, settings: SearchSettings) -> FacetQuery:
    """Parse a request for the values of fields.

    Raises:
        ServiceError: A name, the number of fields, the limit or the filter cannot be served.
    """
    catalog = parse_catalog(message.parent, field="parent")
    check_count(len(message.fields), MAX_FACETS, "fields")
    limit = check_page_size(message.limit, field="limit", default=DEFAULT_FACET_VALUES)
    where = parse_filter(message.filter, max_conditions=settings.max_filter_conditions)
    return FacetQuery(catalog=catalog, fields=tuple(message.fields), limit=limit, where=where or None)


def parse_deletion(message: pb.BatchDeleteItemsRequest, settings: SearchSettings) -> Deletion:
    """Parse a deletion.

    Raises:
        ServiceError: It names ids and a filter, neither, or a filter that every item would pass.
    """
    catalog = parse_catalog(message.parent, field="parent")
    return Deletion(catalog, _parse_which(message, settings), message.validate_only)


def parse_writes(
    messages: Sequence[pb.ItemWrite], settings: SearchSettings, *, first: int = 0
) -> tuple[list[ItemWrite], dict[int, errors.ItemError]]:
    """Parse items to write; returns those that can be, and the errors of the others by place.

    Places count from `first`.

    Raises:
        ServiceError: There are no items, or too many.
    """
    check_count(len(messages), settings.max_write_items, "items")
    writes: list[ItemWrite] = []
    failed: dict[int, errors.ItemError] = {}
    for index, message in enumerate(messages, first):
        try:
            writes.append(_parse_write(index, message, settings))
        except ServiceError as error:
            failed[index] = error.item_error(index, item_id=shown_id(message.item))
    return writes, failed


def shown_id(item: pb.Item) -> str:
    """Return an item's id, or the beginning of what is too long for one."""
    return item.id[:MAX_ITEM_ID_BYTES]


def _has_short_names(item: pb.Item) -> bool:
    """Return whether id and location are short enough to be looked at, told without reading them."""
    return item.ByteSize() - item.payload.ByteSize() - item.features.ByteSize() <= _MAX_NAMES_BYTES


def parse_updates(
    messages: Sequence[pb.Item], mask: FieldMask, settings: SearchSettings
) -> tuple[list[ItemUpdate], dict[int, errors.ItemError]]:
    """Parse changes of items; returns those that can be, and the errors of the others by place.

    Raises:
        ServiceError: There are no items, or too many, or the mask has a path that it cannot have.
    """
    check_count(len(messages), settings.max_write_items, "items")
    common = parse_update_mask(mask)
    updates: list[ItemUpdate] = []
    failed: dict[int, errors.ItemError] = {}
    for index, message in enumerate(messages):
        try:
            updates.append(_parse_update(index, message, common))
        except ServiceError as error:
            failed[index] = error.item_error(index, item_id=shown_id(message))
    return updates, failed


def parse_update_mask(mask: FieldMask) -> UpdateMask | None:
    """Parse a mask; None where it is empty, so that each item changes the parts that it has.

    Raises:
        ServiceError: FIELD_INVALID or OUT_OF_RANGE.
    """
    if len(mask.paths) > MAX_PATHS:
        raise ServiceError(
            errors.OUT_OF_RANGE, f"update_mask has at most {MAX_PATHS} paths", field="update_mask"
        )
    if not mask.paths:
        return None
    fields: dict[str, None] = {}
    for path in mask.paths:
        try:
            name = payload_field(path)
        except ValueError as error:
            raise ServiceError(errors.FIELD_INVALID, f"update_mask {error}", field="update_mask") from error
        if name is not None:
            fields[name] = None
    return UpdateMask("payload" in mask.paths, tuple(fields), "image" in mask.paths)


def check_payload_bytes(payload: Payload, field: str) -> None:
    """Check the size of the payload of the item `field`.

    Raises:
        ServiceError: OUT_OF_RANGE.
    """
    if problem := payload_problem(payload):
        raise ServiceError(errors.OUT_OF_RANGE, f"{field}.payload: {problem}")


def _parse_write(index: int, message: pb.ItemWrite, settings: SearchSettings) -> ItemWrite:
    field = f"items[{index}]"
    payload = _parse_item(message.item, f"{field}.item")
    has_features = message.item.HasField("features")
    if message.content and has_features:
        raise ServiceError(
            errors.FIELD_REQUIRED,
            f"{field} has both content (an image) and item.features; give one of them, since either makes "
            "its vector",
        )
    if not message.content and not has_features:
        raise ServiceError(
            errors.FIELD_REQUIRED,
            f"{field} has neither content (an image) nor item.features, of which one makes its vector; to "
            "change an item that is there and keep its vector, use BatchUpdateItems",
        )
    if len(message.content) > settings.max_image_bytes:
        raise ServiceError(
            errors.IMAGE_TOO_MANY_BYTES,
            f"{field}.content has {len(message.content)} bytes; at most {settings.max_image_bytes} are taken",
        )
    source: ImageReference | FeaturesReference = (
        parse_features(message.item.features, field=f"{field}.item.features")
        if has_features
        else ImageReference(message.content)
    )
    return ItemWrite(index, message.item.id, payload, message.item.image, source)


def _parse_update(index: int, message: pb.Item, mask: UpdateMask | None) -> ItemUpdate:
    field = f"items[{index}]"
    if message.HasField("features"):
        check_item_id(message.id, field=f"{field}.id")
        raise ServiceError(
            errors.FIELD_INVALID, f"{field}.features: vectors are not updated; use BatchUpsertItems"
        )
    payload = _parse_item(message, field)
    own = mask or UpdateMask(message.HasField("payload"), (), bool(message.image))
    return ItemUpdate(index, message.id, payload, message.image, own)


def _parse_item(message: pb.Item, field: str) -> Payload:
    """Check an item's id, location and size; returns its payload."""
    if not _has_short_names(message):
        raise ServiceError(
            errors.OUT_OF_RANGE,
            f"{field} has more than {_MAX_NAMES_BYTES} bytes of id and image location; an id has at most "
            f"{MAX_ITEM_ID_BYTES}, a location {MAX_LOCATION_BYTES}",
        )
    check_item_id(message.id, field=f"{field}.id")
    if problem := location_problem(message.image):
        raise ServiceError(errors.OUT_OF_RANGE, f"{field}.image: {problem}")
    if (size := message.payload.ByteSize()) > _WIRE_TO_JSON * MAX_PAYLOAD_BYTES:
        raise ServiceError(
            errors.OUT_OF_RANGE,
            f"{field}.payload has {size} bytes; at most {MAX_PAYLOAD_BYTES} as JSON are allowed",
        )
    payload = parse_payload(message.payload, field=f"{field}.payload")
    check_payload_bytes(payload, field)
    return payload


def _parse_which(message: pb.BatchDeleteItemsRequest, settings: SearchSettings) -> list[str] | Filter:
    if not message.HasField("filter"):
        return parse_item_ids(message.item_ids)
    if message.item_ids:
        raise ServiceError(errors.FIELD_INVALID, "give either item_ids or filter, not both", field="filter")
    where = parse_filter(message.filter, max_conditions=settings.max_filter_conditions)
    if not _has_condition(where):
        raise ServiceError(
            errors.FIELD_REQUIRED,
            "filter has no condition, so every item would be deleted; name which, or delete the catalog",
            field="filter",
        )
    return where


def _has_condition(where: Filter) -> bool:
    """Return whether a filter has a condition anywhere; empty filters may be nested in one that is not."""
    return any(
        _has_condition(condition) if isinstance(condition, Filter) else True
        for condition in (*where.must, *where.should, *where.must_not)
    )
