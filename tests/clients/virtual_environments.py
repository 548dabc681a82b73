"""Virtual environments of tests, made once for their requirements and kept in build/."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.clients.programs import ROOT, run


def project(folder: str) -> dict[str, Any]:
    """Return the section "project" of the project file in a folder of the repository."""
    document: dict[str, Any] = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())
    return dict(document["project"])


def python_with(name: str, requirements: Sequence[str]) -> Path:
    """Return the interpreter of an environment that holds `requirements` and what they need.

    Where they cannot be had, as without a network at the first time, the test is skipped.
    """
    key = "\n".join([sys.version, sysconfig.get_platform(), *sorted(requirements)])
    folder = ROOT / "build" / "venvs" / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    python, whole = folder / "bin" / "python", folder / ".whole"
    if not whole.exists():
        shutil.rmtree(folder, ignore_errors=True)
        run(sys.executable, "-m", "venv", "--without-pip", str(folder), cwd=ROOT)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "--quiet",
            "--only-binary",
            ":all:",
        ]
        done = subprocess.run([*pip, *requirements], capture_output=True, text=True, timeout=900, check=False)
        if done.returncode != 0:
            pytest.skip(f"{name}: {done.stderr.strip().splitlines()[-1]}")
        whole.touch()
    return python
