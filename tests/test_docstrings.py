"""First words of the docstrings: an imperative or a noun, never a question."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(
    path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name not in ("benchmarks", "tests")
)
QUESTIONS = {"What", "How", "Whether", "Which", "Who", "Where", "When"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def questions(source: str) -> list[str]:
    """Return the first lines of the docstrings that begin with a question word."""
    docstrings = (
        ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, DOCUMENTED)
    )
    first_lines = [text.splitlines()[0] for text in docstrings if text]
    return [line for line in first_lines if QUESTIONS.intersection(re.findall(r"\w+", line)[:1])]


def test_all_packages_are_found() -> None:
    assert {"cir", "cir_cli", "indexer", "search_service", "service_runtime", "vector_store"} <= set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_docstring_begins_with_a_question(package: str) -> None:
    found = {
        str(path.relative_to(ROOT)): lines
        for path in sorted((ROOT / package).rglob("*.py"))
        if (lines := questions(path.read_text(encoding="utf-8")))
    }
    assert not found


def test_questions_differ_from_statements() -> None:
    source = (
        '"""What it does."""\nclass A:\n    """Whatever."""\n    async def f():\n        """How, and why."""'
    )
    assert questions(source) == ["What it does.", "How, and why."]
