"""Items to write and changes of items."""

from __future__ import annotations

from pathlib import Path

from cir import requests
from cir.items import ItemUpdate, ItemWrite
from cir.models import Updated
from cir.search.v1 import catalog_pb2 as pb
from cir.update_mask import payload_path


def test_a_picture_from_a_path_says_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"picture")
    message = ItemWrite("a", path, payload={"price": 3}).message()
    assert (message.item.id, message.content, message.item.image) == ("a", b"picture", str(path))
    assert message.item.payload.fields["price"].integer_value == 3
    assert ItemWrite("a", path, image="https://shop/a.jpg").message().item.image == "https://shop/a.jpg"


def test_an_item_may_bring_its_features() -> None:
    message = ItemWrite("a", features=[1.0, 2.0]).message()
    assert message.item.features.dimension == 2
    assert (message.content, message.item.image) == (b"", "")


def test_what_is_not_given_is_not_sent() -> None:
    assert ItemUpdate("a").message() == pb.Item(id="a")
    sent = ItemUpdate("a", {"price": 3}, "a.jpg").message()
    assert (sent.payload.fields["price"].integer_value, sent.image) == (3, "a.jpg")
    assert ItemUpdate("a", {}).message().HasField("payload")


def test_fields_are_named_in_a_mask() -> None:
    assert payload_path("price_2") == "payload.fields.price_2"
    assert payload_path("a.b c") == "payload.fields.`a.b c`"
    request = requests.update("shop", [ItemUpdate("a")], fields=["price", "a b"]).request
    assert isinstance(request, pb.BatchUpdateItemsRequest)
    assert list(request.update_mask.paths) == ["payload.fields.price", "payload.fields.`a b`"]


def test_errors_are_read() -> None:
    message = pb.BatchUpdateItemsResponse(updated=2)
    message.errors.add(index=1, code=5, reason=42, message="no", item_id="b")
    [error] = Updated.read(message).errors
    assert (error.index, error.reason, error.item_id) == (1, "ITEM_NOT_FOUND", "b")
