"""Update masks: which paths there are, and what they change."""

from __future__ import annotations

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given
from hypothesis import strategies as st

from cir.update_mask import payload_path
from search_service.catalog_requests import UpdateMask, parse_update_mask
from service_runtime.errors import ServiceError

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)
PAYLOADS = st.dictionaries(NAMES, st.integers(), max_size=5)


def test_paths() -> None:
    assert parse_update_mask(FieldMask()) is None
    assert parse_update_mask(FieldMask(paths=["image"])) == UpdateMask(False, (), True)
    assert parse_update_mask(FieldMask(paths=["payload", "image"])) == UpdateMask(True, (), True)
    both = FieldMask(paths=["payload.fields.price", "payload.fields.`a.b c`", "payload.fields.price"])
    assert parse_update_mask(both) == UpdateMask(False, ("price", "a.b c"), False)


@pytest.mark.parametrize(
    "path",
    [
        *("", "*", "id", "features", "payload.", "payload.fields", "payload.fields.", "payload.fields.a.b"),
        *("payload.fields.``", "payload.fields.a b", "image.x", "payload.fields.é", "\x00"),
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(ServiceError, match=r"expected payload, payload\.fields\.NAME or image") as raised:
        parse_update_mask(FieldMask(paths=["image", path]))
    assert raised.value.field == "update_mask"


def test_too_many_paths_are_refused() -> None:
    with pytest.raises(ServiceError, match="at most 256 paths"):
        parse_update_mask(FieldMask(paths=["image"] * 257))


@given(NAMES)
def test_the_client_names_every_field(name: str) -> None:
    mask = parse_update_mask(FieldMask(paths=[payload_path(name)]))
    assert mask == UpdateMask(False, (name,), False)


@given(PAYLOADS, PAYLOADS, st.lists(NAMES, max_size=4))
def test_fields_of_the_mask_are_as_given_and_the_others_as_stored(
    stored: dict[str, int], given_: dict[str, int], names: list[str]
) -> None:
    after = UpdateMask(False, tuple(names), False).apply(stored, given_)
    for name in {*stored, *given_, *names}:
        assert after.get(name) == (given_ if name in names else stored).get(name)
    assert UpdateMask(True, tuple(names), False).apply(stored, given_) == given_
