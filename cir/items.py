"""Items to write and changes of items."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from numpy.typing import ArrayLike

from cir.image_source import ImageSource, encode_image
from cir.limits import is_text
from cir.payload import invalid, to_payload
from cir.search.v1 import catalog_pb2 as pb
from cir.vectors import Features, to_batch


@dataclass(frozen=True, slots=True, eq=False)
class ItemWrite:
    """An item by its image (`content`, as `cir.Turn` takes one) or its raw `features`, shape (d,).

    `image` says where the image is; it is stored and never opened by a service. Where it is empty and
    the image comes from a path, that path is taken.
    """

    id: str
    content: ImageSource | None = None
    features: Features | ArrayLike | None = None
    payload: Mapping[str, object] = field(default_factory=dict)
    image: str = ""

    def message(self) -> pb.ItemWrite:
        """The item as it is sent; reads the image.

        Raises:
            InvalidArgument: the item cannot be sent.
        """
        image = self.image
        if not image and isinstance(self.content, (str, os.PathLike)):
            image = os.fspath(self.content)
        item = pb.Item(id=_text("id", self.id), payload=to_payload(self.payload), image=_text("image", image))
        write = pb.ItemWrite(item=item)
        if self.content is not None:
            write.content = encode_image(self.content)
        if self.features is not None:
            write.item.features.CopyFrom(to_batch(self.features))
        return write


@dataclass(frozen=True, slots=True, eq=False)
class ItemUpdate:
    """The content of an item after the change; None leaves the payload or the image location as it is."""

    id: str
    payload: Mapping[str, object] | None = None
    image: str | None = None

    def message(self) -> pb.Item:
        """The item as it is sent.

        Raises:
            InvalidArgument: the item cannot be sent.
        """
        item = pb.Item(id=_text("id", self.id), image=_text("image", self.image or ""))
        if self.payload is not None:
            item.payload.CopyFrom(to_payload(self.payload))
        return item


def _text(field: str, value: object) -> str:
    if not isinstance(value, str) or not is_text(value):
        raise invalid(field, f"{value!a:.200} is no valid Unicode text")
    return value
