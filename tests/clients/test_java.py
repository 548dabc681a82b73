"""The Java client builds, and its own tests pass against a running service."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.programs import ROOT, needs

pytestmark = [pytest.mark.clients, pytest.mark.service, pytest.mark.torch]

LEFT_OUT = shutil.ignore_patterns("target")


@needs("java", "mvn")
@pytest.mark.timeout(1800)
def test_its_own_tests_pass(environment: dict[str, str], tmp_path: Path) -> None:
    # In a copy, so that what is built here stays as it is. The contract lies two folders up.
    client = tmp_path / "clients" / "java"
    shutil.copytree(ROOT / "clients" / "java", client, ignore=LEFT_OUT)
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    command = ["mvn", "--batch-mode", "--no-transfer-progress", "test"]
    done = subprocess.run(
        command, cwd=client, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    output = done.stdout + done.stderr
    missing = re.search(r"Unable to resolve artifact.*?\d\) (\S+)", output, re.DOTALL)
    if missing is not None:
        # Compilers of the contract are programs for one platform, which not every registry has.
        pytest.skip(f"Maven's registry does not serve {missing.group(1)}")
    assert done.returncode == 0, output
    assert re.search(r"Tests run: \d\d, Failures: 0, Errors: 0, Skipped: 0\n", output), output
    assert "Running cir.client.ServiceTest" in output
