"""What stands in the way of a release."""

from __future__ import annotations

import pytest

from scripts.release import expected, problems

LOCK = "grpcio==1.85.1\n"
CHANGELOG = "# Changelog\n\n## 1.2.3 (2030-01-31)\n"


def test_a_release_that_is_ready() -> None:
    assert problems("1.2.3", CHANGELOG, LOCK, expected("1.2.3")) == []


@pytest.mark.parametrize(
    ("version", "changelog", "lock", "built", "words"),
    [
        ("1.2", "## 1.2 (2030-01-31)", LOCK, expected("1.2"), "expected such as 1.2.3"),
        ("1.2.3", "## 1.2.3 (unreleased)", LOCK, expected("1.2.3"), "begins with '1.2.3 (unreleased)'"),
        ("1.2.3", "", LOCK, expected("1.2.3"), "begins with 'nothing'"),
        ("1.2.3", CHANGELOG, "-e ./cir\n", expected("1.2.3"), "names a folder"),
        ("1.2.3", CHANGELOG, LOCK, expected("1.2.2"), "run make dist"),
    ],
)
def test_what_is_missing_is_named(
    version: str, changelog: str, lock: str, built: set[str], words: str
) -> None:
    (problem,) = problems(version, changelog, lock, built)
    assert words in problem
