"""The Python client with the oldest packages that it allows, and with the newest there are."""

from __future__ import annotations

import re

import pytest

from tests.clients.programs import ROOT, run
from tests.clients.virtual_environments import project, python_with

pytestmark = [pytest.mark.clients, pytest.mark.service, pytest.mark.torch]

REQUIREMENTS: list[str] = project("cir")["dependencies"]
PROGRAM = ROOT / "tests" / "clients" / "floors_program.py"


def oldest(requirement: str) -> str:
    """Return the requirement of the oldest version that another one allows."""
    return requirement.replace(">=", "==")


@pytest.mark.parametrize("which", ["oldest", "newest"])
@pytest.mark.timeout(1200)
def test_a_real_query_is_answered(environment: dict[str, str], which: str) -> None:
    assert all(re.fullmatch(r"[a-z-]+>=[\d.]+", requirement) for requirement in REQUIREMENTS)
    wanted = [oldest(requirement) for requirement in REQUIREMENTS] if which == "oldest" else REQUIREMENTS
    python = python_with(f"client-{which}", wanted)
    # Every warning is an error: stubs that a runtime frowns upon would be refused by the next one.
    printed = run(
        str(python), "-W", "error", str(PROGRAM), cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)}
    )
    found = dict(zip(*[iter(printed.split())] * 2, strict=True))
    if which == "oldest":
        for requirement in wanted:
            name, version = requirement.split("==")
            assert found.get(name, f"{version}.0").removesuffix(".0") == version
    else:
        assert int(found["protobuf"].partition(".")[0]) >= 7
