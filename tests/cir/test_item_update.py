"""Changes of items as they are sent."""

from __future__ import annotations

from cir import catalog_calls
from cir.catalog_answers import Updated
from cir.item_update import ItemUpdate, payload_path
from cir.search.v1 import catalog_pb2 as pb


def test_what_is_not_given_is_not_sent() -> None:
    assert ItemUpdate("a").message() == pb.Item(id="a")
    sent = ItemUpdate("a", {"price": 3}, "a.jpg").message()
    assert (sent.payload.fields["price"].integer_value, sent.image) == (3, "a.jpg")
    assert ItemUpdate("a", {}).message().HasField("payload")


def test_fields_are_named_in_a_mask() -> None:
    assert payload_path("price_2") == "payload.fields.price_2"
    assert payload_path("a.b c") == "payload.fields.`a.b c`"
    request = catalog_calls.update("shop", [ItemUpdate("a")], fields=["price", "a b"]).request
    assert isinstance(request, pb.UpdateItemsRequest)
    assert list(request.update_mask.paths) == ["payload.fields.price", "payload.fields.`a b`"]


def test_errors_are_read() -> None:
    message = pb.UpdateItemsResponse(updated=2)
    message.errors.add(index=1, code=5, reason=42, message="no", item_id="b")  # type: ignore[arg-type]
    [error] = Updated.read(message).errors
    assert (error.index, error.reason, error.item_id) == (1, "ITEM_NOT_FOUND", "b")
