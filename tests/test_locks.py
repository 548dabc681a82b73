"""The two locks: the demo's is a part of the whole one, and light."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What the demo must never bring: hundreds of megabytes that it does not use.
_HEAVY = (
    "torch",
    "torchvision",
    "open-clip-torch",
    "triton",
    "nvidia",
    "cuda",
    "pyarrow",
    "ray",
    "transformers",
    "scipy",
)


def pins(name: str) -> dict[str, str]:
    """Return the version of each distribution in a lock."""
    lines = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in lines}


def test_the_demo_is_installed_in_the_versions_that_are_tested() -> None:
    demo, whole = pins("requirements-demo.lock"), pins("requirements.lock")
    assert len(demo) > 40
    assert {name: whole.get(name) for name in demo if name != "setuptools"} == {
        name: version for name, version in demo.items() if name != "setuptools"
    }


def test_the_demo_brings_nothing_heavy() -> None:
    assert [name for name in pins("requirements-demo.lock") if name.startswith(_HEAVY)] == []


def test_each_file_of_both_has_digests() -> None:
    for name in ("requirements.lock", "requirements-demo.lock"):
        entries = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / name).read_text())
        assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
