"""The Python client with what it is made for: LangChain, MCP, data frames, editors."""

from __future__ import annotations

import pytest

from tests.clients.programs import ROOT, run
from tests.clients.virtual_environments import project, python_with

pytestmark = [pytest.mark.clients, pytest.mark.service, pytest.mark.torch]

CLIENT: list[str] = project("cir")["dependencies"]
FRAMES: list[str] = project("cir")["optional-dependencies"]["frames"]
COMPANIONS = ("langchain", "mcp")


def own(folder: str) -> list[str]:
    """Return what a companion needs besides the client."""
    needed: list[str] = project(f"clients/python/{folder}")["dependencies"]
    assert needed[0].startswith("composed-image-retrieval-client")
    return needed[1:]


@pytest.mark.parametrize("folder", COMPANIONS)
@pytest.mark.timeout(1200)
def test_its_own_tests_pass(environment: dict[str, str], folder: str) -> None:
    package = ROOT / "clients" / "python" / folder
    python = python_with(folder, [*CLIENT, *own(folder), "pytest>=9"])
    path = f"{ROOT}:{package}"
    printed = run(str(python), "-m", "pytest", cwd=package, env=environment | {"PYTHONPATH": path})
    assert "skipped" not in printed


@pytest.mark.timeout(1200)
def test_frames_of_pandas_and_polars_go_in_and_come_out(environment: dict[str, str]) -> None:
    python = python_with("frames", [*CLIENT, *FRAMES, "pandas>=2", "polars>=1"])
    program = str(ROOT / "tests" / "clients" / "frames_program.py")
    printed = run(str(python), "-W", "error", program, cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)})
    assert printed.startswith("frames ")


@pytest.mark.timeout(600)
def test_editors_show_signatures_docstrings_and_answers() -> None:
    python = python_with("editors", [*CLIENT, "jedi>=0.19"])
    program = str(ROOT / "tests" / "clients" / "editor_program.py")
    assert run(str(python), program, str(ROOT), cwd=ROOT).startswith("editors ")
