"""A change of an item that leaves its vector alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cir.search.v1 import catalog_pb2 as pb
from cir.values import to_payload


@dataclass(frozen=True, slots=True, eq=False)
class ItemUpdate:
    """What an item has after the change; None leaves the payload or the image location as it is."""

    id: str
    payload: Mapping[str, object] | None = None
    image: str | None = None

    def message(self) -> pb.Item:
        """The item as it is sent. Raises `InvalidArgument`."""
        item = pb.Item(id=self.id, image=self.image or "")
        if self.payload is not None:
            item.payload.CopyFrom(to_payload(self.payload))
        return item


def payload_path(field: str) -> str:
    """The path of one payload field in an update mask (AIP-161)."""
    return f"payload.fields.{field}" if re.fullmatch(r"\w+", field, re.ASCII) else f"payload.fields.`{field}`"
