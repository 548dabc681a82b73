"""Methods of both clients as help(), inspect and editors see them: written out, and the same as the calls."""

from __future__ import annotations

import importlib
import inspect
import pydoc
from pathlib import Path
from typing import get_type_hints

import pytest

import cir
from scripts.generate_client import METHODS, generate

ROOT = Path(__file__).resolve().parents[2]
NAMES = [(method[0], method[1], method[2]) for method in METHODS]


@pytest.mark.service
def test_they_are_written_of_the_calls_of_today() -> None:
    for name, text in generate().items():
        assert (ROOT / "cir" / name).read_text() == text, "run `make protos`"


def test_every_call_has_a_method() -> None:
    built = {
        (module, name)
        for module in ("requests", "create", "feature_calls")
        for name, function in vars(importlib.import_module(f"cir.{module}")).items()
        if str(getattr(function, "__annotations__", {}).get("return", "")).startswith("Call[")
        and not name.startswith("_")
        and function.__module__ == f"cir.{module}"
    }
    assert built - {("requests", "build_call")} == {(module, name) for _, module, name in NAMES}


@pytest.mark.parametrize("client", [cir.Client, cir.AsyncClient])
@pytest.mark.parametrize(("name", "module", "function"), NAMES, ids=[name for name, _, _ in NAMES])
def test_signatures_docstrings_and_types_are_seen(
    client: type, name: str, module: str, function: str
) -> None:
    method, build = getattr(client, name), getattr(importlib.import_module(f"cir.{module}"), function)
    assert inspect.isfunction(method)
    seen, wanted = inspect.signature(method), inspect.signature(build)
    assert list(seen.parameters.values())[1:] == list(wanted.parameters.values())
    assert "Call[" not in str(seen.return_annotation)
    hints = get_type_hints(method)
    assert hints["timeout"] == float | None
    if function == name:
        # Indented further in a class.
        assert inspect.getdoc(method) == inspect.getdoc(build)
    assert len((inspect.getdoc(method) or "").splitlines()[0]) > 8


def test_help_shows_arguments_and_answer() -> None:
    shown = pydoc.plain(pydoc.render_doc(cir.Client.search))
    assert "text: 'str' = ''" in shown
    assert "-> 'SearchAnswer'" in shown
    assert "with the change that a text describes" in shown
    assert "-> 'Iterator[Item]'" in pydoc.plain(pydoc.render_doc(cir.Client.all_items))
