"""One step of the dialogue, as callers write it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from cir.errors import InvalidArgument
from cir.features import Features, to_batch
from cir.images import ImageSource, encode_image
from cir.search.v1 import search_pb2 as pb


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """A reference with a change, or a change to what the previous turn came to.

    At most one of `image` (path, bytes or PIL image), `item` (an id of the catalog) and `features` (raw,
    shape (d,)) is the reference; none continues from the previous turn. `text` is the change wanted, or
    alone a search by text. `liked` and `disliked` are item ids that the query moves towards and away
    from. `text_weight` in [0, 1] is used in place of the combiner's own.
    """

    image: ImageSource | None = None
    item: str = ""
    features: Features | ArrayLike | None = None
    text: str = ""
    liked: Sequence[str] = ()
    disliked: Sequence[str] = ()
    text_weight: float | None = None

    def message(self) -> pb.Turn:
        """The turn as it is sent; reads the picture. Raises `InvalidArgument`."""
        turn = pb.Turn(text=self.text, liked_item_ids=_ids(self.liked), disliked_item_ids=_ids(self.disliked))
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


def _ids(ids: Sequence[str]) -> Sequence[str]:
    # A lone string is a sequence of one-letter ids to Python, and never meant so.
    return [ids] if isinstance(ids, str) else ids
