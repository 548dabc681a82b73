"""What the calls on catalogs and items answer, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import grpc

from cir.common.v1 import errors_pb2
from cir.features import Features, from_batch
from cir.names import last_part
from cir.search.v1 import catalog_pb2 as pb
from cir.values import Value, from_payload, from_value

_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a catalog. `state`: "building", "ready", "published" or "retired".

    `schema` maps payload fields to "keyword", "integer", "float", "bool", "datetime", "geo" or "text";
    `model` has facts about the model, for people.
    """

    name: str
    state: str
    item_count: int
    created: datetime
    model_fingerprint: str
    dimension: int
    schema: dict[str, str]
    model: dict[str, str]

    @classmethod
    def read(cls, message: pb.CatalogVersion) -> Version:
        """Read the message."""
        return cls(
            name=last_part(message.name),
            state=pb.VersionState.Name(message.state).lower(),
            item_count=message.item_count,
            created=message.create_time.ToDatetime(tzinfo=UTC),
            model_fingerprint=message.model_fingerprint,
            dimension=message.dimension,
            schema={name: pb.FieldType.Name(message.schema[name]).lower() for name in sorted(message.schema)},
            model={name: message.model[name] for name in sorted(message.model)},
        )


@dataclass(frozen=True, slots=True)
class Catalog:
    """A named collection of items; `published` is None while nothing was published in it."""

    name: str
    published: Version | None

    @classmethod
    def read(cls, message: pb.Catalog) -> Catalog:
        """Read the message."""
        published = Version.read(message.published) if message.HasField("published") else None
        return cls(last_part(message.name), published)


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One item. `image` is where its picture is; `features` (raw) only where asked for."""

    id: str
    payload: dict[str, Value]
    image: str = ""
    features: Features | None = None

    @classmethod
    def read(cls, message: pb.Item) -> Item:
        """Read the message."""
        return cls(message.id, from_payload(message.payload), message.image, from_batch(message.features))


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """Items by id, in the order asked for, and the ids that do not exist."""

    found: tuple[Item, ...]
    missing: tuple[str, ...]

    @classmethod
    def read(cls, message: pb.BatchGetItemsResponse) -> Items:
        """Read the message."""
        return cls(tuple(Item.read(item) for item in message.items), tuple(message.missing_ids))


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item of a batch failed: its place in the request, and what a call of its own would raise."""

    index: int
    item_id: str
    code: grpc.StatusCode
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Written:
    """How many items were written, and why the others were not."""

    written: int
    errors: tuple[ItemError, ...]

    @classmethod
    def read(cls, message: pb.UpsertItemsResponse) -> Written:
        """Read the message."""
        return cls(message.written, tuple(_item_error(error) for error in message.errors))


@dataclass(frozen=True, slots=True)
class Updated:
    """How many changes were carried out, and why the others were not."""

    updated: int
    errors: tuple[ItemError, ...]

    @classmethod
    def read(cls, message: pb.UpdateItemsResponse) -> Updated:
        """Read the message."""
        return cls(message.updated, tuple(_item_error(error) for error in message.errors))


@dataclass(frozen=True, slots=True)
class FacetCount:
    """One value of a field and how many items have it."""

    value: Value
    count: int


def read_facets(message: pb.FacetItemsResponse) -> dict[str, list[FacetCount]]:
    """Values by field, most frequent first."""
    return {
        facet.field: [FacetCount(from_value(entry.value), entry.count) for entry in facet.values]
        for facet in message.facets
    }


def _item_error(error: errors_pb2.ItemError) -> ItemError:
    known = error.reason in errors_pb2.ErrorReason.values()
    return ItemError(
        index=error.index,
        item_id=error.item_id,
        code=_CODES.get(error.code, grpc.StatusCode.UNKNOWN),
        reason=errors_pb2.ErrorReason.Name(error.reason) if known else str(int(error.reason)),
        message=error.message,
    )
