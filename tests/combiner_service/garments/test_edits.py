"""What is asked for after edits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from combiner_service.garments.attributes import KINDS, VALUES, combinations, names_of
from combiner_service.garments.edits import Edit, all_changed, changed, possible_edits

GARMENTS = st.sampled_from(KINDS).flatmap(lambda kind: st.sampled_from(combinations(kind)))
DRESS = {"kind": "dress", "colour": "red", "pattern": "plain", "sleeve": "sleeveless", "length": "long"}


def test_a_new_kind_keeps_what_both_have_and_leaves_the_rest_open() -> None:
    skirt = {"kind": "skirt", "colour": "red", "pattern": "plain", "length": "long"}
    assert changed(DRESS, Edit("kind", "skirt")) == skirt
    assert changed(skirt, Edit("kind", "dress")) == {**skirt, "kind": "dress"}
    assert changed(DRESS, Edit("kind", "t-shirt")) == {"kind": "t-shirt", "colour": "red", "pattern": "plain"}


def test_the_kind_is_changed_first() -> None:
    edits = (Edit("neckline", "v-neck"), Edit("kind", "t-shirt"))
    assert all_changed(DRESS, edits) == all_changed(DRESS, edits[::-1])
    assert all_changed(DRESS, edits)["neckline"] == "v-neck"


@given(GARMENTS, st.data())
def test_an_edit_changes_its_attribute_and_nothing_that_stays(
    garment: dict[str, str], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(names_of(garment["kind"])))
    edits = possible_edits(garment, name)
    assert {edit.value for edit in edits} == set(VALUES[name]) - {garment[name]}
    after = changed(garment, data.draw(st.sampled_from(edits)))
    assert after[name] != garment[name]
    assert set(after) <= set(names_of(after["kind"]))
    assert {key: value for key, value in after.items() if key != name}.items() <= garment.items()
    if name != "kind":
        assert after.keys() == garment.keys()


def test_a_kind_without_the_attribute_has_no_such_edits() -> None:
    assert possible_edits({"kind": "hat", "colour": "red", "pattern": "plain"}, "sleeve") == ()
