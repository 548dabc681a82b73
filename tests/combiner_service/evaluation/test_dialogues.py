import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray

from combiner_service.combiner import Combiner
from combiner_service.datasets.dialogues import Dialogue, DialogueTurn
from combiner_service.evaluation.dialogues import evaluate_dialogues
from combiner_service.evaluation.evaluate import EvaluationError
from combiner_service.evaluation.tables import dialogue_table
from combiner_service.feature_files.folder import FeatureFolder
from combiner_service.feature_files.header import FeatureFileError, Kind
from combiner_service.simple import SumCombiner
from combiner_service.slerp import SlerpCombiner
from search_service import query
from tests.combiner_service.evaluation.examples import Vector, table_of

NAMES = [f"i{n}" for n in range(12)]


def folder_of(*, without: str = "") -> FeatureFolder:
    random = np.random.default_rng(3)
    images: dict[str, Vector | None] = {
        name: random.standard_normal(6).astype(np.float32) * 4 for name in NAMES
    }
    texts: dict[str, Vector | None] = {
        f"t{n}": random.standard_normal(6).astype(np.float32) * 4 for n in range(5)
    }
    return FeatureFolder(
        table_of(Kind.IMAGES, images | ({without: None} if without else {})), table_of(Kind.TEXTS, texts)
    )


def talk(name: str, reference: str, *asked: tuple[str, str]) -> Dialogue:
    return Dialogue(name, reference, tuple(DialogueTurn(text, (target,)) for text, target in asked))


def as_searched(combiner: Combiner, dialogue: Dialogue, folder: FeatureFolder) -> list[NDArray[np.float32]]:
    """The query after each turn, folded by the search service's own code."""

    async def combine(image: Vector, text: Vector, weight: float | None) -> tuple[Vector, float]:
        combined = combiner.combine(image[None], text[None], weight)
        return combined.query_vectors[0], float(combined.text_weights[0])

    def feature(table: object, name: str) -> Vector:
        opened = getattr(folder, str(table))
        return np.array(opened.take(opened.rows([name]))[0])

    nothing = np.empty((0, 6), np.float32)
    asked = [
        query.Turn(
            feature("images", dialogue.reference) if at == 0 else None,
            feature("texts", turn.text),
            nothing,
            nothing,
        )
        for at, turn in enumerate(dialogue.turns)
    ]
    return [asyncio.run(query.fold(asked[: n + 1], combine)).query for n in range(len(asked))]


@pytest.mark.parametrize("combiner", [SumCombiner(), SlerpCombiner()])
def test_dialogues_are_folded_as_the_search_service_folds_them(combiner: Combiner) -> None:
    folder = folder_of()
    talks = [
        talk("a", "i0", ("t0", "i3"), ("t1", "i4"), ("t2", "i5")),
        talk("b", "i1", ("t3", "i6")),
        talk("c", "i2", ("t4", "i7"), ("t0", "i8")),
    ]
    found = evaluate_dialogues(combiner, talks, NAMES, folder)
    assert (found.turns, found.answered, found.dialogues) == ((3, 2, 1), 3, 3)
    gallery = {name: folder.images.take(folder.images.rows([name]))[0].astype(np.float64) for name in NAMES}
    hits: dict[int, list[list[bool]]] = {k: [[], [], []] for k in found.success}
    for one in talks:
        for at, vector in enumerate(as_searched(combiner, one, folder)):
            scores = {name: float(vector @ row / np.linalg.norm(row)) for name, row in gallery.items()}
            order = sorted((name for name in NAMES if name != one.reference), key=lambda name: -scores[name])
            for k, by_turn in hits.items():
                by_turn[at].append(order.index(one.turns[at].targets[0]) < k)
    assert found.success == {
        k: tuple(float(np.mean(part)) for part in by_turn) for k, by_turn in hits.items()
    }


def test_dialogues_without_features_are_counted_out_and_unknown_names_refused() -> None:
    talks = [talk("a", "i0", ("t0", "i3")), talk("b", "i1", ("t0", "i3"))]
    found = evaluate_dialogues(SumCombiner(), talks, NAMES, folder_of(without="i0"))
    assert (found.answered, found.dialogues) == (1, 2)
    assert "1 of 2 dialogues answered (1 with turn 1)" in dialogue_table([found])
    assert found.document()["success"] == {f"success@{k}": list(v) for k, v in found.success.items()}
    with pytest.raises(EvaluationError, match="none of 2 dialogues"):
        evaluate_dialogues(SumCombiner(), talks, NAMES, folder_of(without="i3"))
    with pytest.raises(FeatureFileError, match="no features of 'never'"):
        evaluate_dialogues(SumCombiner(), [talk("a", "i0", ("never", "i3"))], NAMES, folder_of())
