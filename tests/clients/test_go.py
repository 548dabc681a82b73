"""The Go client's own tests pass against a running service."""

from __future__ import annotations

import pytest

from tests.clients.programs import ROOT, needs, run

pytestmark = [pytest.mark.clients, pytest.mark.service, pytest.mark.torch]

CLIENT = ROOT / "clients" / "go"


@needs("go")
@pytest.mark.timeout(1800)
def test_its_own_tests_pass(environment: dict[str, str]) -> None:
    assert run("gofmt", "-l", ".", cwd=CLIENT) == ""
    run("go", "vet", "./...", cwd=CLIENT)
    output = run("go", "test", "-count=1", "-timeout=120s", "-v", "./...", cwd=CLIENT, env=environment)
    assert "--- PASS: TestTwoTurnsWithAFilter" in output
    assert "--- PASS: TestARunThatWasStoppedGoesOn" in output
    assert "--- SKIP" not in output
