"""Paths of payload fields."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vector_store.payload_index import data_path, escape_key, unescape_key


@given(st.text())
def test_every_field_name_survives_and_fits_a_path(name: str) -> None:
    key = escape_key(name)
    assert unescape_key(key) == name
    assert '"' not in key
    assert data_path(name) == f'data."{key}"'


@given(st.text(alphabet='%25"C\\ab'), st.text(alphabet='%25"C\\ab'))
def test_different_names_have_different_keys(one: str, other: str) -> None:
    assert (escape_key(one) == escape_key(other)) == (one == other)
