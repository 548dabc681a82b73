"""Captions and texts are true, read well, and are of one split alone."""

from __future__ import annotations

import random
import re
from dataclasses import fields
from itertools import combinations as pairs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garments.language import TEMPLATES, Templates, caption, captions, phrase
from garments.queries import draw_edits
from garments.vocabulary import KINDS, Edit, SplitName, combinations
from tests.garments.meaning import asked_for

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


SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


def _all(frames: Templates) -> list[str]:
    return [frame for field in fields(frames) for frame in getattr(frames, field.name)]


def test_no_sentence_is_in_two_splits() -> None:
    sentences = {split: set(_all(TEMPLATES[split])) for split in SPLITS}
    for first, second in pairs(SPLITS, 2):
        assert not sentences[first] & sentences[second]
    assert len(sentences["train"]) > len(sentences["test"]) > 15


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_can_say_everything_of_any_garment(split: SplitName) -> None:
    frames = TEMPLATES[split]
    for field in fields(Templates):
        sentences = getattr(frames, field.name)
        assert sentences
        if field.name in ("quality", "colour", "thing", "kind"):
            assert any("{old}" not in sentence for sentence in sentences)


@given(
    st.sampled_from(SPLITS),
    st.sampled_from(KINDS).flatmap(lambda kind: st.sampled_from(combinations(kind))),
    st.sampled_from((1, 2)),
    st.integers(0, 2**32),
)
def test_a_text_says_its_edits_and_nothing_else(
    split: SplitName, garment: dict[str, str], count: int, seed: int
) -> None:
    rng = random.Random(seed)
    edits = draw_edits(garment, count, rng)
    text = phrase(edits, garment, split, rng)
    assert asked_for(text) == {edit.attribute: edit.value for edit in edits}, text
    assert not re.search(r"[{}]|  |^\s|\s$", text)


def test_the_words_that_shoppers_use_are_among_them() -> None:
    shirt = {"kind": "t-shirt", "colour": "blue", "pattern": "striped", "neckline": "round"}
    skirt = {"kind": "skirt", "colour": "blue", "pattern": "striped", "length": "long"}

    def said(*edits: Edit, of: dict[str, str]) -> set[str]:
        return {phrase(edits, of, "test", random.Random(seed)) for seed in range(400)}

    assert "is red instead" in said(Edit("colour", "red"), of=shirt)
    assert "same but dotted" in said(Edit("pattern", "dotted"), of=shirt)
    assert "make it a skirt in the same colour" in said(Edit("kind", "skirt"), of=shirt)
    wanted = said(Edit("pattern", "plain"), Edit("length", "short"), of=skirt)
    assert any(re.fullmatch(r"no stripes, and (same but|a bit) shorter.*", text) for text in wanted)


def test_the_same_colour_is_not_asked_for_with_another() -> None:
    shirt = {"kind": "t-shirt", "colour": "blue", "pattern": "striped", "neckline": "round"}
    edits = (Edit("kind", "hat"), Edit("colour", "red"))
    for split in SPLITS:
        texts = {phrase(edits, shirt, split, random.Random(seed)) for seed in range(200)}
        assert not [text for text in texts if "same colour" in text or "this colour" in text]
