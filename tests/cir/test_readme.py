"""The page of the client names what there is: its programs compile, and call methods by their arguments."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import cir

README = Path(__file__).resolve().parents[2] / "cir" / "README.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


def test_there_are_programs() -> None:
    assert len(PROGRAMS) >= 5


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_call_what_there_is(program: str) -> None:
    called = 0
    for node in ast.walk(ast.parse(program)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner, name = node.func.value, node.func.attr
        if isinstance(owner, ast.Name) and owner.id in ("cir", "client"):
            of = cir if owner.id == "cir" else cir.Client
            given: dict[str, object] = {word.arg: None for word in node.keywords if word.arg}
            places = [None] * (len(node.args) + (owner.id == "client"))
            inspect.signature(getattr(of, name)).bind(*places, **given)
            called += 1
    assert called
