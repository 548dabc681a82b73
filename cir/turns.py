"""Turns of a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from cir.errors import InvalidArgument
from cir.image_source import ImageSource, encode_image
from cir.payload import texts
from cir.search.v1 import search_pb2 as pb
from cir.vectors import Features, to_batch


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """A reference with a change, or a change to what the previous turn came to.

    At most one of `image` (path, bytes, binary file object, PIL image, or uint8 array: (H, W, 3) in RGB,
    (H, W, 4) in RGBA, (H, W) in grey), `item` (an id of the catalog) and `features` (raw, shape (d,)) is
    the reference; none continues from the previous turn. `text` is the change wanted, or alone a search by
    text. `liked` and `disliked` are item ids that the query moves towards and away from. `text_weight`
    moves the query between the reference (0) and the text (1); 0.5 (for slerp 0.6) is what the combiner
    answers without it.
    """

    image: ImageSource | None = None
    item: str = ""
    features: Features | ArrayLike | None = None
    text: str = ""
    liked: Sequence[str] = ()
    disliked: Sequence[str] = ()
    text_weight: float | None = None

    def message(self) -> pb.Turn:
        """The turn as it is sent; reads the image.

        Raises:
            InvalidArgument: the turn cannot be sent.
        """
        turn = pb.Turn(
            text=self.text,
            liked_item_ids=texts(self.liked, field="liked"),
            disliked_item_ids=texts(self.disliked, field="disliked"),
        )
        given = [name for name in ("image", "item", "features") if not _is_empty(getattr(self, name))]
        if len(given) > 1:
            raise InvalidArgument(
                f"a turn has one reference, this one has {' and '.join(given)}; use one turn for each",
                reason="FIELD_INVALID",
                field="reference",
            )
        if self.image is not None:
            turn.reference.image = encode_image(self.image)
        if self.item:
            turn.reference.item_id = self.item
        if self.features is not None:
            turn.reference.features.CopyFrom(to_batch(self.features))
        if self.text_weight is not None:
            turn.text_weight = self.text_weight
        return turn


def _is_empty(part: object) -> bool:
    return part is None or (isinstance(part, str) and not part)
