from __future__ import annotations

from pathlib import Path

from cir.item_write import ItemWrite


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
