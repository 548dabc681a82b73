"""The Go client: its generated code is fresh, and its own tests pass against a running service."""

from __future__ import annotations

import filecmp
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.clients, pytest.mark.service, pytest.mark.torch]

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "clients" / "go"

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed")


def _run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_go
@pytest.mark.timeout(1800)
def test_its_own_tests_pass(environment: dict[str, str]) -> None:
    assert _run("gofmt", "-l", ".", cwd=CLIENT) == ""
    _run("go", "vet", "./...", cwd=CLIENT)
    output = _run("go", "test", "-count=1", "-timeout=120s", "-v", ".", cwd=CLIENT, env=environment)
    assert "--- PASS: TestTwoTurnsWithAFilter" in output
    assert "--- SKIP" not in output


@needs_go
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm, which brings buf, is not installed")
@pytest.mark.timeout(900)
def test_generated_code_is_what_the_protos_say(tmp_path: Path) -> None:
    _run("scripts/buf", "generate", "--output", str(tmp_path), cwd=ROOT)
    fresh, kept = tmp_path / "clients/go/gen", CLIENT / "gen"
    names = sorted(str(path.relative_to(fresh)) for path in fresh.rglob("*.go"))
    assert names == sorted(str(path.relative_to(kept)) for path in kept.rglob("*.go"))
    _, differing, failed = filecmp.cmpfiles(fresh, kept, names, shallow=False)
    assert (differing, failed) == ([], []), "run `make clients`"
