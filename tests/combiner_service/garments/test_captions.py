"""Captions say what a garment is."""

from __future__ import annotations

import random
import re

from hypothesis import given
from hypothesis import strategies as st

from combiner_service.garments.attributes import KINDS, combinations
from combiner_service.garments.captions import caption, captions
from tests.combiner_service.garments.meaning import asked_for

GARMENTS = st.sampled_from(KINDS).flatmap(lambda kind: st.sampled_from(combinations(kind)))
_OTHER = re.compile(r"(?:instead of|and not|rather than) [\w-]+")


@given(GARMENTS)
def test_the_plain_caption_names_every_attribute(garment: dict[str, str]) -> None:
    assert asked_for(caption(garment)) == garment


def test_the_plain_caption_reads_well() -> None:
    dress = {
        "kind": "dress",
        "colour": "orange",
        "pattern": "dotted",
        "sleeve": "sleeveless",
        "length": "long",
    }
    assert caption(dress) == "a long sleeveless orange dotted dress"
    assert caption({"kind": "hat", "colour": "orange", "pattern": "plain"}) == "an orange plain hat"
    assert caption({"kind": "shorts", "colour": "red"}) == "red shorts"
    shirt = {"kind": "t-shirt", "colour": "red", "pattern": "plain", "neckline": "v-neck"}
    assert caption(shirt) == "a red plain t-shirt with a v-neck"


@given(GARMENTS, st.integers(0, 2**32))
def test_captions_are_true_and_have_kind_colour_and_pattern(garment: dict[str, str], seed: int) -> None:
    made = captions(garment, random.Random(seed), 6)
    assert len(made) == 6
    assert made[0] == caption(garment)
    for text in made:
        # What a garment is without, or is not, says nothing of what it is.
        plain = re.sub(
            r"with(?:out| no) (?:any )?(?:pattern|stripes|dots|checks|flowers|zigzags)", "plain", text
        )
        said = asked_for(_OTHER.sub("", plain))
        assert said.items() <= garment.items()
        assert {"kind", "colour", "pattern"} <= said.keys()
