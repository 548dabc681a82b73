"""Adding a built-in combiner is one line: from then on it is known everywhere."""

from importlib.util import find_spec, module_from_spec

import numpy as np
import pytest

from combiner_service import builtin
from combiner_service.application import CombinerApplication
from combiner_service.combiner import Combined, Combiner, CombinerInfo, Float32, constant_weight
from combiner_service.errors import CombinerNotFoundError
from combiner_service.metrics import CombinerMetrics
from combiner_service.registry import Registry
from combiner_service.settings import CombinerSettings
from combiner_training.datasets.base import Query
from combiner_training.evaluation.compare import baselines, compare
from combiner_training.evaluation.evaluate import EvaluationError
from combiner_training.evaluation.load_combiner import load_combiner
from combiner_training.evaluation.protocol import protocol_for
from combiner_training.evaluation.queries import evaluation_queries
from combiner_training.feature_file import FeatureFolder, FeatureKind
from tests.combiner_training.evaluation.examples import split_of, table_of


class DifferenceCombiner(Combiner):
    """The text less a tenth of the image."""

    def __init__(self) -> None:
        super().__init__(
            CombinerInfo("difference", "Text less a tenth of the image.", takes_text_weight=False)
        )

    def _combine(self, image_features: Float32, text_features: Float32) -> Combined:
        total = text_features.astype(np.float64) - 0.1 * image_features
        return constant_weight(total / np.linalg.norm(total, axis=1, keepdims=True), 1.0)


class Steps:
    """Remembers how many steps were announced and what was done."""

    def __init__(self) -> None:
        self.total = 0
        self.notes: list[str] = []

    def start(self, what: str, total: int) -> None:
        self.total = total

    def advance(self, done: int, note: str = "") -> None:
        self.notes.append(note)

    def stop(self) -> None:
        pass


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "BUILTIN", (*builtin.BUILTIN, DifferenceCombiner()))


def features() -> FeatureFolder:
    rows = dict(zip("abc", np.eye(3, dtype=np.float32), strict=True))
    return FeatureFolder(table_of(FeatureKind.IMAGES, rows), table_of(FeatureKind.TEXTS, {"t": rows["b"]}))


def test_the_service_lists_serves_and_counts_it() -> None:
    registry = Registry()
    assert registry.infos()[-1].name == "difference"
    assert isinstance(registry.get("difference"), DifferenceCombiner)
    with pytest.raises(CombinerNotFoundError, match=r"there are: .*, difference"):
        registry.get("nope")
    assert CombinerMetrics(builtin.named_combiners()).kind_of("difference") == "difference"
    application = CombinerApplication(CombinerSettings(host="127.0.0.1", port=0))
    assert application._metrics.kind_of("difference") == "difference"


def test_the_help_of_the_settings_names_it() -> None:
    spec = find_spec("combiner_service.settings")
    assert spec is not None
    assert spec.loader is not None
    fresh = module_from_spec(spec)
    spec.loader.exec_module(fresh)
    assert "difference" in fresh.CombinerSettings.model_fields["checkpoint_dir"].description


def test_evaluation_knows_it() -> None:
    assert isinstance(load_combiner("difference", features()), DifferenceCombiner)
    with pytest.raises(EvaluationError, match=r"neither a combiner \(.*, difference, .*\) nor"):
        load_combiner("nope", features())


def test_it_is_a_baseline_of_every_comparison() -> None:
    assert [one.info.name for one in baselines()] == ["image", "text", "difference", "sum", "slerp"]
    protocol, folder = protocol_for("triplets"), features()
    split = split_of([Query("1", "a", ("t",), ("b",), ())], ["a", "b", "c"])
    queries = evaluation_queries(split, folder.images, folder.texts, protocol)
    steps = Steps()
    comparison = compare([], [queries], protocol, progress=steps)
    rows = [row.combiner for row in comparison.rows]
    mixes = ["sum", "weighted_sum", "unit_sum", "slerp", "best_slerp"]
    assert rows == ["image", "text", "difference", *mixes]
    assert (steps.total, steps.notes) == (len(rows), rows)
