"""Explanations of turns and of results: as properties, and over gRPC."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cir.fields import FieldType, PayloadValue
from cir.search.v1 import catalog_pb2, search_pb2
from cir.search.v1.search_pb2 import Reference, SearchRequest, Turn
from cir.vectors import normalize, pack, unpack
from combiner_service.builtin import BUILTIN
from combiner_service.combiner import Combiner, CombinerInfo
from combiner_service.cpu_network import CpuNetwork
from combiner_service.network import NetworkCombiner
from search_service.explanations import Neutral, begins_with_text, compare_payloads, contribution, rows
from search_service.query import Pair, TurnKind
from tests.combiner_service.examples import SMALL, weights_of
from tests.search_service.conftest import Stack
from tests.search_service.neighbours import FINGERPRINT, features_of

NETWORK = NetworkCombiner(CombinerInfo("combiner/x", "", takes_text_weight=True), CpuNetwork(weights_of()))
COMBINERS: list[Combiner] = [*BUILTIN, NETWORK]
SHOP = "catalogs/shop"


def raw(seed: int, length: float) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).normal(size=SMALL.feature_dim)
    return (length * vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.mark.parametrize("combiner", COMBINERS, ids=lambda combiner: combiner.info.name)
@given(
    seed=st.integers(0, 2**16),
    lengths=st.tuples(*[st.floats(0.1, 100)] * 3),
    weight=st.none() | st.sampled_from([0.0, 0.2, 0.8, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_what_a_part_gave_is_what_is_lost_without_it(
    combiner: Combiner, seed: int, lengths: tuple[float, float, float], weight: float | None
) -> None:
    image, text, mean = (raw(seed + n, length) for n, length in enumerate(lengths))
    if not combiner.info.takes_text_weight:
        weight = None
    pair = Pair(0, image, text, weight)
    asked = rows(pair, Neutral(mean, raw(seed + 3, 1.0)))
    assert all(len(each) == 3 for each in asked)
    gave = contribution(combiner.combine(*asked, weight).query_vectors)
    assert gave is not None
    assert 0 <= gave.text_share <= 1
    only_image = combiner.info.name == "image" or weight == 0
    only_text = combiner.info.name == "text" or weight == 1
    if only_image or only_text:
        assert gave.text_share == pytest.approx(float(only_text), abs=1e-5)
        assert gave.text_moved_little == only_image
    else:
        assert 0 < gave.text_moved <= 2
        assert 0 < gave.image_moved <= 2


def test_nothing_is_told_where_nothing_moved() -> None:
    same = normalize(np.ones((3, 4), np.float32))
    assert contribution(same) is None
    pair = Pair(0, same[0], same[1], None)
    assert [len(each) for each in rows(pair, None)] == [1, 1]


@given(st.lists(st.sampled_from(TurnKind)))
def test_a_dialogue_is_of_texts_alone_until_a_turn_has_an_image(later: list[TurnKind]) -> None:
    kinds = [TurnKind.TEXT_ONLY, *later]
    images = {TurnKind.REFERENCE_ONLY, TurnKind.COMPOSED}
    for number in range(len(kinds)):
        last = max((at for at in range(number + 1) if kinds[at] in images), default=-1)
        words = max(at for at in range(number + 1) if kinds[at] is TurnKind.TEXT_ONLY)
        assert begins_with_text(kinds, number) == (words > last)


values = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["a", "b", ""])
payloads = st.dictionaries(st.sampled_from("wxyz"), values | st.lists(values.filter(lambda v: v is not None)))
SCHEMA = {"w": FieldType.KEYWORD, "x": FieldType.INTEGER, "y": FieldType.BOOL, "z": FieldType.FLOAT}


@given(payloads, payloads)
def test_changed_and_kept_fields_are_those_that_both_have(
    ours: dict[str, PayloadValue], theirs: dict[str, PayloadValue]
) -> None:
    changed, kept = compare_payloads(ours, theirs, SCHEMA)
    assert compare_payloads(theirs, ours, SCHEMA) == (changed, kept)
    assert not set(changed) & set(kept)
    known = {
        field for field in "wxy" if ours.get(field) not in (None, []) and theirs.get(field) not in (None, [])
    }
    assert {*changed, *kept} == known
    assert all(repr(ours[field]) != repr(theirs[field]) for field in changed)
    assert compare_payloads(ours, ours, SCHEMA)[0] == []


def test_lists_are_compared_as_sets_and_true_is_not_one() -> None:
    ours: dict[str, PayloadValue] = {"w": ["a", "b"], "x": 1, "y": True}
    theirs: dict[str, PayloadValue] = {"w": ["b", "a", "a"], "x": True, "y": True}
    assert compare_payloads(ours, theirs, SCHEMA) == (["x"], ["w", "y"])


def composed(number: int, text: str) -> Turn:
    return Turn(reference=Reference(item_id=f"item-{number}"), text=text)


@pytest.mark.service
async def test_turns_are_explained_in_the_same_calls_and_only_on_request(stack: Stack) -> None:
    turns = [composed(3, "with stripes"), Turn(text="in red")]
    plain = await stack.search.Search(SearchRequest(parent=SHOP, turns=turns))
    assert stack.embedder.texts == 2
    told = await stack.search.Search(SearchRequest(parent=SHOP, turns=turns, explain_turns=True))
    assert stack.embedder.texts == 3  # the neutral text; the others are remembered
    assert [len(unpack(call.image_features)) for call in stack.combiner.calls] == [1, 1, 3, 3]
    assert [result.item.id for result in told.results] == [result.item.id for result in plain.results]
    assert not any(turn.HasField("contribution") for turn in plain.explanation.turns)
    mean = np.mean([features_of(f"picture {n}".encode()) for n in range(40)], axis=0)
    mean *= 10 / np.linalg.norm(mean)
    image = features_of("picture 3")
    for turn, text in zip(told.explanation.turns, ("with stripes", "in red"), strict=True):
        query = normalize(image + features_of(text))
        text_moved = 1 - float(query @ normalize(image + features_of("")))
        gave = turn.contribution
        assert gave.text_moved == pytest.approx(text_moved, abs=1e-4)
        assert 0 < gave.text_share < 1
        assert gave.text_share == pytest.approx(gave.text_moved / (gave.text_moved + gave.image_moved))
        image = query * 10


@pytest.mark.service
async def test_results_are_explained_by_cosines_and_by_what_changed(stack: Stack) -> None:
    asked = SearchRequest(parent=SHOP, turns=[composed(3, "x")], page_size=9, explain_results=True)
    answer = await stack.search.Search(asked)
    assert len(stack.combiner.calls) == 1
    assert answer.explanation.reference.id == "item-3"
    reference = answer.explanation.reference.payload.fields
    image, text = normalize(features_of(b"picture 3")), normalize(features_of("x"))
    for result in answer.results:
        assert not result.item.HasField("features")
        own = normalize(features_of(f"picture {result.item.id.removeprefix('item-')}"))
        why = result.explanation
        assert why.image_similarity == pytest.approx(float(own @ image), abs=1e-5)
        assert why.text_similarity == pytest.approx(float(own @ text), abs=1e-5)
        assert sorted([*why.changed_fields, *why.kept_fields]) == ["colour", "price"]
        same = result.item.payload.fields["colour"] == reference["colour"]
        assert ("colour" in why.kept_fields) == same
    asked.with_features = True
    assert (await stack.search.Search(asked)).results[0].item.HasField("features")
    alone = SearchRequest(parent=SHOP, turns=[Turn(text="x")], explain_results=True, explain_turns=True)
    answer = await stack.search.Search(alone)
    assert not answer.explanation.HasField("reference")
    assert answer.results[0].explanation.HasField("text_similarity")
    assert not answer.results[0].explanation.HasField("image_similarity")
    assert not answer.results[0].explanation.kept_fields


@pytest.mark.service
async def test_any_list_of_turns_can_be_explained_and_its_answer_stays(stack: Stack) -> None:
    draw = random.Random(4)

    def turn(*, first: bool) -> Turn:
        made = Turn(text=draw.choice(["", "red", "long", "with dots"]))
        match draw.choice(["item", "features", "image", "none"]):
            case "item":
                made.reference.item_id = f"item-{draw.randrange(40)}"
            case "features":
                made.reference.features.CopyFrom(pack(features_of("z")[None] * draw.choice([0.01, 1, 50])))
            case "image":
                made.reference.image = b"picture 7"
        if draw.random() < 0.3:
            made.liked_item_ids.append(f"item-{draw.randrange(40)}")
        if not made.text and not made.HasField("reference"):
            if first:
                made.text = "blue"
            else:
                made.disliked_item_ids.append("item-1")
        return made

    for _ in range(40):
        turns = [turn(first=number == 0) for number in range(draw.randint(1, 5))]
        plain = await stack.search.Search(SearchRequest(parent=SHOP, turns=turns, with_query_vector=True))
        told = await stack.search.Search(
            SearchRequest(
                parent=SHOP, turns=turns, with_query_vector=True, explain_turns=True, explain_results=True
            )
        )
        np.testing.assert_allclose(unpack(told.query_vector), unpack(plain.query_vector), atol=1e-5)
        for each in told.explanation.turns:
            combined = each.kind in (search_pb2.TURN_KIND_COMPOSED, search_pb2.TURN_KIND_CONTINUED)
            assert each.HasField("contribution") == combined
        assert all(result.HasField("explanation") for result in told.results)
        assert told.results[0].explanation.ByteSize()


@pytest.mark.service
async def test_what_began_with_a_text_goes_on_at_the_length_of_the_catalogs_images(stack: Stack) -> None:
    found = await stack.catalogs.GetCatalog(catalog_pb2.GetCatalogRequest(name=SHOP))
    assert found.published.image_length == pytest.approx(10, rel=1e-4)
    await stack.catalogs.CreateCatalog(
        catalog_pb2.CreateCatalogRequest(
            catalog_id="new",
            model=catalog_pb2.VersionModel(fingerprint=FINGERPRINT, dimension=len(features_of("a"))),
        )
    )
    new = "catalogs/new"
    turns = [Turn(text="red"), Turn(text="long")]
    await stack.search.Search(SearchRequest(parent=new, turns=turns, explain_turns=True))
    found = await stack.catalogs.GetCatalog(catalog_pb2.GetCatalogRequest(name=new))
    assert not found.published.HasField("image_length")
    for catalog in (SHOP, new):
        await stack.search.Search(SearchRequest(parent=catalog, turns=turns))
        call = stack.combiner.calls[-1]
        assert np.linalg.norm(unpack(call.image_features)[0]) == pytest.approx(10, rel=1e-4)
