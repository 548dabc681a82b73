from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors import safe_open

from combiner_training.extract import EmbeddedBatch, extract_images, extract_texts
from combiner_training.feature_file import (
    FeatureFileError,
    FeatureHeader,
    FeatureKind,
    FeatureTable,
    open_folder,
    paths_of,
    read_table,
)
from tests.combiner_training.fake_model import FakeModel, Killed, Silent, image_feature


def images_in(folder: Path, count: int, **others: bytes) -> dict[str, Path]:
    """Files whose content is a letter, and others; "missing" gets no file."""
    folder.mkdir(exist_ok=True)
    contents = {f"{index:02}": bytes([65 + index]) for index in range(count)} | others
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in [*contents, "missing"]}


def run(folder: Path, pictures: dict[str, Path], model: FakeModel, *, fresh: bool = False) -> FeatureTable:
    extract_images(folder, pictures, model, dtype="float32", fresh=fresh, progress=Silent())
    return read_table(paths_of(folder)[0])


def check(table: FeatureTable, pictures: dict[str, Path]) -> None:
    """Every image has its own features, and those that have none are NaN."""
    for name, path in pictures.items():
        expected = image_feature(path.read_bytes()) if path.exists() and path.stat().st_size else [np.nan] * 4
        np.testing.assert_array_equal(table.matrix[table.header.names.index(name)], expected)


def test_every_image_gets_its_row_and_the_rest_its_reason(tmp_path: Path) -> None:
    pictures = images_in(tmp_path / "p", 7, empty=b"", bad=b"broken")
    done = extract_images(tmp_path / "f", pictures, FakeModel(), dtype="float16", progress=Silent())
    table = read_table(paths_of(tmp_path / "f")[0])
    check(table, pictures)
    assert (done.total, done.embedded, done.kept) == (10, 10, 0)
    usable = table.take(np.flatnonzero(table.usable))
    assert done.mean_length == pytest.approx(np.linalg.norm(usable, axis=1).mean())
    assert done.reasons == {"missing": 1, "empty": 1, "unusable": 1}
    listed = (tmp_path / "f" / "images.rejects.jsonl").read_text().splitlines()
    assert [line for line in listed if '"bad"' in line] == ['{"name": "bad", "reason": "broken"}']
    assert len(listed) == 3
    assert table.rows(["00", "missing"]).tolist() == [0, -1]
    assert table.header.kind is FeatureKind.IMAGES
    assert table.header.model == {"architecture": "fake", "preprocessing": "none"}


@pytest.mark.parametrize("dies_after", range(11))
def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path, dies_after: int) -> None:
    pictures = images_in(tmp_path / "p", 11)
    first = FakeModel(dies_after=dies_after)
    with pytest.raises(Killed):
        run(tmp_path / "f", pictures, first)
    assert not paths_of(tmp_path / "f")[0].exists()
    second = FakeModel()
    check(run(tmp_path / "f", pictures, second), pictures)
    # Two batches are under way at a time: at most what was in flight is embedded twice.
    assert len(second.embedded) <= 11 - max(0, dies_after // 3 - 1) * 3
    assert not list((tmp_path / "f").glob("*.partial"))


@pytest.mark.parametrize("cut", [1, 7, 15, 16, 17, 40])
def test_a_row_that_was_half_written_is_written_again(tmp_path: Path, cut: int) -> None:
    pictures = images_in(tmp_path / "p", 8)
    with pytest.raises(Killed):
        run(tmp_path / "f", pictures, FakeModel(dies_after=6))
    [partial] = (tmp_path / "f").glob("*.partial")
    partial.write_bytes(partial.read_bytes()[:-cut])
    check(run(tmp_path / "f", pictures, FakeModel()), pictures)


def test_a_partial_file_of_other_work_is_begun_anew(tmp_path: Path) -> None:
    pictures = images_in(tmp_path / "p", 8)
    with pytest.raises(Killed):
        run(tmp_path / "f", pictures, FakeModel(dies_after=6))
    model = FakeModel(fingerprint="model-b")
    table = run(tmp_path / "f", pictures, model)
    check(table, pictures)
    assert len(model.embedded) == 8
    assert table.header.model_fingerprint == "model-b"


def test_a_folder_grows_and_keeps_what_it_has(tmp_path: Path) -> None:
    pictures = images_in(tmp_path / "p", 5)
    few = {name: pictures[name] for name in ("00", "02", "missing")}
    run(tmp_path / "f", few, FakeModel())
    (tmp_path / "p" / "missing").write_bytes(b"Z")
    model = FakeModel()
    check(
        run(tmp_path / "f", {name: pictures[name] for name in ("01", "missing")}, model),
        images_of(tmp_path, "00", "01", "02", "missing"),
    )
    assert sorted(model.embedded) == [b"B", b"Z"]
    again = FakeModel()
    run(tmp_path / "f", pictures, again, fresh=True)
    assert len(again.embedded) == 6


def images_of(folder: Path, *names: str) -> dict[str, Path]:
    return {name: folder / "p" / name for name in names}


def test_features_of_another_model_are_not_mixed(tmp_path: Path) -> None:
    pictures = images_in(tmp_path / "p", 3)
    run(tmp_path / "f", pictures, FakeModel())
    before = paths_of(tmp_path / "f")[0].read_bytes()
    with pytest.raises(FeatureFileError, match="features of model model-a, this model is model-b"):
        run(tmp_path / "f", pictures, FakeModel(fingerprint="model-b"))
    assert paths_of(tmp_path / "f")[0].read_bytes() == before


def test_a_folder_keeps_its_type_and_another_is_refused(tmp_path: Path) -> None:
    pictures = images_in(tmp_path / "p", 3)
    run(tmp_path / "f", pictures, FakeModel())  # float32
    before = paths_of(tmp_path / "f")[0].read_bytes()
    with pytest.raises(FeatureFileError, match=r"holds float32, not float16; .* `fresh`"):
        extract_images(tmp_path / "f", pictures, FakeModel(), dtype="float16", progress=Silent())
    assert paths_of(tmp_path / "f")[0].read_bytes() == before
    done = extract_images(tmp_path / "f", pictures, FakeModel(), progress=Silent())
    assert done.kept == 3
    assert read_table(paths_of(tmp_path / "f")[0]).header.dtype == np.float32
    extract_images(tmp_path / "f", pictures, FakeModel(), dtype="float16", fresh=True, progress=Silent())
    assert read_table(paths_of(tmp_path / "f")[0]).header.dtype == np.float16


class Nothing(FakeModel):
    """A model that gives zeros for empty texts."""

    def embed_texts(self, texts: Sequence[str]) -> EmbeddedBatch:
        return EmbeddedBatch(np.array([[0, len(text), 0, 0] for text in texts], np.float32))


def test_a_row_of_zeros_counts_as_no_features(tmp_path: Path) -> None:
    done = extract_texts(tmp_path, ["x", "", "yy"], Nothing(), progress=Silent())
    assert done.reasons == {"unusable": 1}
    assert read_table(paths_of(tmp_path)[1]).rows(["x", "", "yy"]).tolist() == [0, -1, 2]


@given(arrays(np.float32, (9, 3), elements=st.sampled_from([0.0, 1.0, -2.0])), st.lists(st.integers(0, 8)))
def test_rows_without_direction_are_not_usable_wherever_they_stand(
    matrix: np.ndarray, unknown: list[int]
) -> None:
    matrix[unknown] = np.nan
    header = FeatureHeader(FeatureKind.IMAGES, tuple("abcdefghi"), 3, np.dtype(np.float32), "model-a", {})
    lengths = np.linalg.norm(matrix, axis=1)
    assert FeatureTable(header, matrix, "a test").usable.tolist() == (lengths > 0).tolist()


def test_other_tools_read_the_file(tmp_path: Path) -> None:
    texts = ["is red", "ist größer", "", "is red"]
    extract_texts(tmp_path, texts, FakeModel(), dtype="float16", progress=Silent())
    with safe_open(paths_of(tmp_path)[1], framework="numpy") as file:
        assert file.metadata()["model_fingerprint"] == "model-a"
        np.testing.assert_array_equal(file.get_tensor("features")[:, 0], [6, 10, 0])
        assert file.get_tensor("features").dtype == np.float16


def test_values_beyond_float16_stay_finite(tmp_path: Path) -> None:
    extract_texts(tmp_path, ["x" * 70_000], FakeModel(), dtype="float16", progress=Silent())
    assert read_table(paths_of(tmp_path)[1]).matrix[0, 0] == np.finfo(np.float16).max


def test_nothing_to_embed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeatureFileError, match="no texts to embed"):
        extract_texts(tmp_path, [], FakeModel(), progress=Silent())


def test_progress_is_told(tmp_path: Path) -> None:
    progress = Silent()
    extract_images(tmp_path / "f", images_in(tmp_path / "p", 3), FakeModel(batch_items=2), progress=progress)
    assert progress.heard == [("images", 4), ("", 0), ("", 2), ("1 without features", 4)]


def test_a_folder_of_two_models_is_refused(tmp_path: Path) -> None:
    pictures = images_in(tmp_path / "p", 2)
    run(tmp_path / "f", pictures, FakeModel())
    extract_texts(tmp_path / "f", ["x"], FakeModel(), progress=Silent())
    opened = open_folder(tmp_path / "f")
    assert (opened.model_fingerprint, opened.dimension) == ("model-a", 4)
    extract_texts(tmp_path / "f", ["x"], FakeModel(fingerprint="model-b"), fresh=True, progress=Silent())
    with pytest.raises(FeatureFileError, match="of model model-a, the texts of model-b"):
        open_folder(tmp_path / "f")
    images, texts = paths_of(tmp_path / "f")
    texts.write_bytes(images.read_bytes())
    with pytest.raises(FeatureFileError, match="holds images; expected texts"):
        open_folder(tmp_path / "f")
