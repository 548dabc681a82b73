"""The TypeScript client builds, and its own tests pass against a running service."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.clients.programs import ROOT, needs, run

pytestmark = [pytest.mark.clients, pytest.mark.service, pytest.mark.torch]

LEFT_OUT = shutil.ignore_patterns("node_modules", "dist")


@needs("npm")
@pytest.mark.timeout(1800)
def test_its_own_tests_pass(environment: dict[str, str], tmp_path: Path) -> None:
    # In a copy, so that what is built here stays as it is.
    client = tmp_path / "typescript"
    shutil.copytree(ROOT / "clients" / "typescript", client, ignore=LEFT_OUT)
    run("npm", "ci", "--no-audit", "--no-fund", cwd=client)
    output = run("npm", "test", cwd=client, env=environment)
    assert "two turns with a filter" in output
    assert "# SKIP" not in output
