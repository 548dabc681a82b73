"""The extras that messages ask for: each is there, and every message has the same words."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from cir.extras import CLIENT, SERVICES, install

ROOT = Path(__file__).parents[2]
PACKAGES = [path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"]
CODE = {path: path.read_text(encoding="utf-8") for package in PACKAGES for path in package.rglob("*.py")}


def extras(project: Path) -> set[str]:
    return set(tomllib.loads(project.read_text())["project"]["optional-dependencies"])


@pytest.mark.parametrize(
    ("call", "project", "name"),
    [
        (r"install\(['\"](\w+)['\"]\)", ROOT / "pyproject.toml", SERVICES),
        (r"install\(['\"](\w+)['\"], of=CLIENT\)", ROOT / "cir" / "pyproject.toml", CLIENT),
    ],
)
def test_every_extra_that_is_asked_for_is_one(call: str, project: Path, name: str) -> None:
    asked = {extra for code in CODE.values() for extra in re.findall(call, code)}
    assert asked
    assert asked <= extras(project)
    assert tomllib.loads(project.read_text())["project"]["name"] == name


def test_no_message_has_words_of_its_own() -> None:
    own = re.compile(r"install the extra|pip install [\"']?composed")
    assert [path.name for path, code in CODE.items() if own.search(code)] == ["extras.py"]
    assert own.search(install("torch"))
