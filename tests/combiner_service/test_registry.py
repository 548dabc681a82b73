import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from combiner_service.checkpoint import Checkpoint, CheckpointMetadata, read_checkpoint, write_checkpoint
from combiner_service.checkpoint_directory import CheckpointDirectory
from combiner_service.errors import CombinerNotFoundError, CombinerUnusableError
from combiner_service.registry import Registry
from service_runtime.settings import software_version
from tests.combiner_service.examples import (
    combine_by_formulae,
    combiner_of,
    features_of,
    save_published,
    weights_of,
)

pytestmark = pytest.mark.torch

SIMPLE = ["sum", "slerp", "image", "text"]


def registry_of(folder: Path, fingerprints: dict[str, str] | None = None, **settings: Any) -> Registry:
    return Registry(CheckpointDirectory(folder, fingerprints or {}), **settings)


def names(registry: Registry) -> list[str]:
    return [info.name for info in registry.infos()]


def problem(registry: Registry, name: str) -> str:
    return registry.info(name).problem


def combined(registry: Registry, name: str, seed: int) -> bool:
    """Return true if the combiner under this name is the network of this seed."""
    image, text = features_of(2), features_of(2, seed=1)
    answer = combiner_of(registry, name).combine(image, text).query_vectors
    return np.allclose(answer, combine_by_formulae(weights_of(seed=seed), image, text)[0], atol=1e-5)


def test_without_a_folder_there_are_the_simple_combiners() -> None:
    registry = Registry()
    assert names(registry) == SIMPLE
    assert [registry.get(name).info.name for name in SIMPLE] == SIMPLE
    with pytest.raises(CombinerNotFoundError, match="there are: sum, slerp, image, text; there is no folder"):
        registry.get("combiner/fashion")


def test_checkpoints_are_named_after_their_files(tmp_path: Path) -> None:
    save_published(tmp_path / "cirr_rn50x4.pt", weights_of(seed=1))
    metadata = CheckpointMetadata(model_fingerprint="abc", protocol="reference removed", epoch=3)
    write_checkpoint(tmp_path / "shop.v2.safetensors", weights_of(seed=2), metadata)
    (tmp_path / "README.md").write_text("not a checkpoint")
    (tmp_path / ".hidden.pt").write_bytes(b"")
    (tmp_path / "folder.pt").mkdir()
    registry = registry_of(tmp_path)
    assert names(registry) == [*SIMPLE, "combiner/cirr_rn50x4", "combiner/folder", "combiner/shop.v2"]
    assert problem(registry, "combiner/folder") == "not a regular file; put a file there or remove it"
    assert combined(registry, "combiner/cirr_rn50x4", seed=1)
    assert combined(registry, "combiner/shop.v2", seed=2)
    info = registry.info("combiner/shop.v2")
    assert (info.dimension, info.model_fingerprint, info.takes_text_weight) == (8, "abc", True)
    assert info.metadata == {
        "protocol": "reference removed",
        "epoch": "3",
        "software_version": software_version(),
    }


def test_an_unknown_name_lists_those_there_are(tmp_path: Path) -> None:
    save_published(tmp_path / "a.pt", weights_of())
    with pytest.raises(CombinerNotFoundError, match=r"no combiner 'a'; there are: sum, .*, combiner/a$"):
        registry_of(tmp_path).get("a")


def test_a_long_list_of_names_is_cut(tmp_path: Path) -> None:
    for index in range(30):
        (tmp_path / f"c{index:02}.safetensors").write_bytes(b"")
    with pytest.raises(CombinerNotFoundError, match="and 14 more"):
        registry_of(tmp_path).get("x" * 10_000)


def test_files_come_change_and_go_without_a_restart(tmp_path: Path) -> None:
    registry = registry_of(tmp_path)
    assert names(registry) == SIMPLE
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, weights_of(seed=1), CheckpointMetadata(model_fingerprint="one"))
    assert combined(registry, "combiner/a", seed=1)
    write_checkpoint(path, weights_of(seed=2), CheckpointMetadata(model_fingerprint="two"))
    assert combined(registry, "combiner/a", seed=2)
    assert registry.info("combiner/a").model_fingerprint == "two"
    path.unlink()
    with pytest.raises(CombinerNotFoundError):
        registry.get("combiner/a")
    assert registry.loaded() == []


def test_an_unchanged_file_is_neither_inspected_nor_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_published(tmp_path / "a.pt", weights_of())
    monkeypatch.setattr("combiner_service.checkpoint_directory._UNSETTLED_SECONDS", -1)
    registry = registry_of(tmp_path)
    first = registry.get("combiner/a")

    def fail(path: Path) -> None:
        raise AssertionError(f"{path} is looked into again")

    monkeypatch.setattr("combiner_service.checkpoint_directory.inspect_checkpoint", fail)
    monkeypatch.setattr("combiner_service.network_loading.read_checkpoint", fail)
    assert registry.get("combiner/a") is first
    assert names(registry) == [*SIMPLE, "combiner/a"]


def test_a_half_written_file_is_unusable_alone_and_until_it_is_whole(tmp_path: Path) -> None:
    save_published(tmp_path / "good.pt", weights_of(seed=1))
    for ending in ("pt", "safetensors"):
        other = tmp_path / f"other.{ending}"
        if ending == "pt":
            save_published(other, weights_of(seed=2))
        else:
            write_checkpoint(other, weights_of(seed=2), CheckpointMetadata())
        whole = other.read_bytes()
        registry = registry_of(tmp_path)
        other.write_bytes(whole[: len(whole) // 2])
        assert "not a whole" in problem(registry, "combiner/other")
        with pytest.raises(CombinerUnusableError, match=r"combiner/other cannot be used: not a whole"):
            registry.get("combiner/other")
        assert combined(registry, "combiner/good", seed=1)
        other.write_bytes(whole)
        assert problem(registry, "combiner/other") == ""
        assert combined(registry, "combiner/other", seed=2)
        other.unlink()


def test_weights_found_bad_while_reading_are_listed_until_the_file_changes(tmp_path: Path) -> None:
    bad = weights_of()
    bad["output_layer.bias"][0] = float("nan")
    path = save_published(tmp_path / "a.pt", bad)
    registry = registry_of(tmp_path)
    assert problem(registry, "combiner/a") == ""
    with pytest.raises(CombinerUnusableError, match="NaN"):
        registry.get("combiner/a")
    assert "NaN" in problem(registry, "combiner/a")
    path.unlink()
    save_published(path, weights_of(seed=4))
    assert combined(registry, "combiner/a", seed=4)


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, weights_of(seed=1), CheckpointMetadata())
    reads: list[Path] = []

    def read_then_replace(file: Path) -> Checkpoint:
        checkpoint = read_checkpoint(file)
        if not reads:
            write_checkpoint(path, weights_of(seed=2), CheckpointMetadata())
        reads.append(file)
        return checkpoint

    monkeypatch.setattr("combiner_service.network_loading.read_checkpoint", read_then_replace)
    assert combined(registry_of(tmp_path), "combiner/a", seed=2)
    assert len(reads) == 2


def test_a_file_that_never_stays_the_same_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, weights_of(), CheckpointMetadata())

    def replace_always(file: Path) -> Checkpoint:
        checkpoint = read_checkpoint(file)
        write_checkpoint(path, weights_of(), CheckpointMetadata())
        return checkpoint

    monkeypatch.setattr("combiner_service.network_loading.read_checkpoint", replace_always)
    with pytest.raises(CombinerUnusableError, match="keeps changing"):
        registry_of(tmp_path).get("combiner/a")


def test_two_files_of_one_name_are_unusable_until_one_is_left(tmp_path: Path) -> None:
    published = save_published(tmp_path / "a.pt", weights_of(seed=1))
    write_checkpoint(tmp_path / "a.safetensors", weights_of(seed=2), CheckpointMetadata())
    registry = registry_of(tmp_path)
    assert problem(registry, "combiner/a") == "several files share the name: a.pt, a.safetensors; keep one"
    published.unlink()
    assert combined(registry, "combiner/a", seed=2)


def test_names_that_cannot_be_sent_or_typed_are_unusable(tmp_path: Path) -> None:
    save_published(tmp_path / "my model.pt", weights_of())
    os.rename(os.fsencode(tmp_path / "my model.pt"), os.fsencode(tmp_path) + b"/\xff.pt")
    save_published(tmp_path / "my model.pt", weights_of())
    infos = registry_of(tmp_path).infos()[len(SIMPLE) :]
    assert [info.name for info in infos] == ["combiner/?", "combiner/my model"]
    assert all("rename the file" in info.problem for info in infos)


def test_a_setting_binds_a_published_file_to_a_model(tmp_path: Path) -> None:
    save_published(tmp_path / "a.pt", weights_of())
    save_published(tmp_path / "b.pt", weights_of())
    registry = registry_of(tmp_path, {"a": "model-1"})
    assert registry.info("combiner/a").model_fingerprint == "model-1"
    assert registry.info("combiner/b").model_fingerprint == ""


def test_a_setting_does_not_override_the_file(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.safetensors", weights_of(), CheckpointMetadata(model_fingerprint="two"))
    assert registry_of(tmp_path, {"a": "two"}).get("combiner/a").info.model_fingerprint == "two"
    with pytest.raises(CombinerUnusableError, match="trained on model two, the setting binds it to one"):
        registry_of(tmp_path, {"a": "one"}).get("combiner/a")


def test_the_least_recently_used_network_makes_room(tmp_path: Path) -> None:
    for name in "abc":
        save_published(tmp_path / f"{name}.pt", weights_of())
    registry = registry_of(tmp_path, max_loaded=2)
    for name in ("a", "b", "a", "c"):
        registry.get(f"combiner/{name}")
    assert registry.loaded() == ["combiner/a", "combiner/c"]
    with pytest.raises(ValueError, match="at least one"):
        registry_of(tmp_path, max_loaded=0)


def test_many_threads_read_a_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_published(tmp_path / "a.pt", weights_of())
    reads: list[Path] = []

    def counted(path: Path) -> Checkpoint:
        reads.append(path)
        return read_checkpoint(path)

    monkeypatch.setattr("combiner_service.network_loading.read_checkpoint", counted)
    registry = registry_of(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        combiners = set(threads.map(registry.get, ["combiner/a"] * 32))
    assert len(combiners) == len(reads) == 1


def test_a_folder_that_vanishes_keeps_its_last_scan(tmp_path: Path) -> None:
    folder = tmp_path / "share"
    folder.mkdir()
    save_published(folder / "a.pt", weights_of(seed=1))
    save_published(folder / "b.pt", weights_of(seed=2))
    registry = registry_of(folder)
    assert combined(registry, "combiner/a", seed=1)
    folder.rename(tmp_path / "away")
    assert combined(registry, "combiner/a", seed=1)
    with pytest.raises(CombinerUnusableError, match="No such file"):
        registry.get("combiner/b")
    (tmp_path / "away").rename(folder)
    assert combined(registry, "combiner/a", seed=1)


@pytest.mark.service
@pytest.mark.parametrize("with_checkpoints", [False, True])
def test_networks_are_served_without_torch_and_others_without_a_runtime(
    tmp_path: Path, with_checkpoints: bool
) -> None:
    if with_checkpoints:
        write_checkpoint(tmp_path / "a.safetensors", weights_of(), CheckpointMetadata())
        save_published(tmp_path / "b.pt", weights_of())
    program = (
        "import sys, pathlib, numpy\n"
        "import combiner_service.application\n"
        "from combiner_service.checkpoint_directory import CheckpointDirectory\n"
        "from combiner_service.registry import Registry\n"
        "registry = Registry(CheckpointDirectory(pathlib.Path(sys.argv[1]), {}))\n"
        "ones = numpy.ones((2, 8), numpy.float32)\n"
        "for info in registry.infos():\n"
        "    assert not info.problem\n"
        "    if not info.dimension: registry.get(info.name).combine(ones, ones)\n"
        "assert 'openvino' not in sys.modules\n"
        "for info in registry.infos():\n"
        "    if info.dimension: registry.get(info.name).combine(ones, ones)\n"
        # Small networks are numpy's.
        "assert not {'torch', 'openvino', 'rich'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
