"""The composers of one's own in docs/composers.md, installed and called as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from combiner_service.combiner import Needs, Pairs
from combiner_service.inversion import Inverted
from combiner_service.registry import Registry
from tests.combiner_service.examples import combiner_of

PAGE = (Path(__file__).parents[2] / "docs" / "composers.md").read_text()


def test_the_page_s_examples_are_composers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (group, point) = re.findall(r'```toml\n\[project.entry-points."(.*?)"\]\n(.*?)\n```', PAGE, re.DOTALL)[0]
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").touch()
    for name, code in re.findall(r"```python\n# my_package/(\w+.py)\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / "my_package" / name).write_text(code)
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{point.replace(chr(34), '')}\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    composer = Registry().get("linear-words")
    assert (composer.info.needs, composer.info.token_width) == (Needs.TEXT_TOWER, 4)
    features = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    (answer,) = composer.combine_all([Pairs(features, features)])
    assert isinstance(answer, Inverted)
    assert answer.template == "a photo of {image} that {text}"
    np.testing.assert_array_equal(answer.words, features[:, :4])

    summed = combiner_of(Registry(), "unit-sum")
    own = summed.combine(features, 2 * features[::-1].copy())
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = 0.6 * unit[::-1] + 0.4 * unit
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(own.query_vectors, expected, atol=1e-6)
    np.testing.assert_allclose(
        summed.combine(features, features[::-1].copy(), 1.0).query_vectors, unit[::-1], atol=1e-6
    )
