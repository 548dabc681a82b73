from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from combiner_service.checkpoint import CheckpointMetadata, write_checkpoint
from combiner_service.combiner import Combiner
from combiner_service.errors import InvalidCheckpointError
from combiner_training.evaluation.evaluate import EvaluationError
from combiner_training.evaluation.load_combiner import load_combiner
from combiner_training.feature_file import FeatureFolder, FeatureKind
from tests.combiner_service.examples import combine_by_formulae, features_of, save_published, weights_of
from tests.combiner_training.evaluation.examples import table_of

pytestmark = pytest.mark.torch


def folder_of(dimension: int = 8, fingerprint: str = "model-a") -> FeatureFolder:
    row = np.ones(dimension, np.float32)
    return FeatureFolder(
        table_of(FeatureKind.IMAGES, {"a": row}, fingerprint),
        table_of(FeatureKind.TEXTS, {"x": row}, fingerprint),
    )


@pytest.mark.parametrize("name", ["sum", "slerp", "image", "text"])
def test_simple_combiners_are_chosen_by_name(name: str) -> None:
    assert load_combiner(name, folder_of()).info.name == name


def test_checkpoints_of_both_formats_are_chosen_by_path(tmp_path: Path) -> None:
    write_checkpoint(
        tmp_path / "own.safetensors", weights_of(), CheckpointMetadata(model_fingerprint="model-a")
    )
    save_published(tmp_path / "published.pt", weights_of())
    image, text = features_of(3), features_of(3, seed=1)
    for name in ("own.safetensors", "published.pt"):
        chosen = load_combiner(str(tmp_path / name), folder_of(), device="cpu")
        expected, _ = combine_by_formulae(weights_of(), image, text)
        assert isinstance(chosen, Combiner)
        np.testing.assert_allclose(chosen.combine(image, text).query_vectors, expected, atol=1e-5)


def test_other_files_of_ours_are_told_for_what_they_are(tmp_path: Path) -> None:
    for form, said in (("training/1", "take best.safetensors"), ("features/2", "these are features")):
        save_file({"x": np.zeros(2, np.float32)}, tmp_path / "x.safetensors", {"cir_format": form})
        with pytest.raises(InvalidCheckpointError, match=said):
            load_combiner(str(tmp_path / "x.safetensors"), folder_of())


def test_what_does_not_fit_the_features_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    write_checkpoint(path, weights_of(), CheckpointMetadata(model_fingerprint="model-a"))
    with pytest.raises(EvaluationError, match="features of model model-a, these are of model-b"):
        load_combiner(str(path), folder_of(fingerprint="model-b"))
    with pytest.raises(EvaluationError, match="features of 8 values, these have 9"):
        load_combiner(str(path), folder_of(dimension=9))
    with pytest.raises(EvaluationError, match="'no such' is neither a combiner"):
        load_combiner("no such", folder_of())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InvalidCheckpointError, match=r"own\.safetensors: not a whole safetensors file"):
        load_combiner(str(path), folder_of())
