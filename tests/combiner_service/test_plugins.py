"""Combiners of other distributions: found by their entry points, refused with a name and a reason."""

from pathlib import Path

import numpy as np
import pytest

from combiner_service.application import CombinerApplication
from combiner_service.builtin import builtin_names, named_combiners
from combiner_service.errors import PluginError
from combiner_service.plugins import GROUP
from combiner_service.registry import Registry
from combiner_service.settings import CombinerSettings
from service_runtime.errors import StartupError
from tests.combiner_service.examples import combiner_of

MODULE = """
import numpy as np
from combiner_service.combiner import Combined, Combiner, CombinerInfo

class Texts(Combiner):
    def __init__(self, name="texts"):
        super().__init__(CombinerInfo(name=name, description="Text alone.", takes_text_weight=False))

    def _combine(self, image_features, text_features):
        rows = text_features / np.linalg.norm(text_features, axis=1, keepdims=True)
        return Combined(rows, np.ones(len(rows), np.float32))

def misnamed():
    return Texts("another")

def other_sum():
    return Texts("sum")

def spaced():
    return Texts("a b")

def broken():
    raise RuntimeError("no licence")
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the import path with a module `third_party` in it."""
    (tmp_path / "third_party.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def distribution(folder: Path, *points: str, name: str = "third-party") -> None:
    """Write what an installed distribution says of itself."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join((f"[{GROUP}]", *points)) + "\n")


def test_an_installed_combiner_comes_after_the_built_in_ones(install: Path) -> None:
    distribution(install, "texts = third_party:Texts")
    assert list(named_combiners()) == [*builtin_names(), "texts"]
    registry = Registry()
    assert [info.name for info in registry.infos()] == [*builtin_names(), "texts"]
    features = np.eye(2, 3, dtype=np.float32)
    answer = combiner_of(registry, "texts").combine(features, 2 * features)
    np.testing.assert_array_equal(answer.query_vectors, features)


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        ("texts = third_party:misnamed", "is named 'another'; give the entry point the same name"),
        ("sum = third_party:other_sum", "has a name that is taken"),
        ("a b = third_party:spaced", "has an unusable name"),
        ("texts = third_party:broken", r"cannot be loaded \(RuntimeError: no licence\)"),
        ("texts = third_party:absent", r"cannot be loaded \(AttributeError"),
        ("texts = nowhere:Texts", r"cannot be loaded \(ModuleNotFoundError"),
        ("texts = builtins:dict", "gives a dict; expected a subclass of"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_distribution(install: Path, point: str, reason: str) -> None:
    distribution(install, point)
    with pytest.raises(PluginError, match=f"the combiner '.*' of third-party .*{reason}"):
        named_combiners()
    with pytest.raises(StartupError, match=reason):
        CombinerApplication(CombinerSettings(host="127.0.0.1", port=0))


def test_two_distributions_cannot_bring_one_name(install: Path) -> None:
    distribution(install, "texts = third_party:Texts")
    distribution(install, "texts = third_party:Texts", name="fourth-party")
    with pytest.raises(PluginError, match="has a name that is taken"):
        named_combiners()
