"""What pyproject.toml cannot say: the services ask for the client of exactly their own version."""

from __future__ import annotations

import email
import runpy
from pathlib import Path

from setuptools import setup

_ROOT = Path(__file__).resolve().parent


def version() -> str:
    """Return the version in `cir/_version.py`, or in a source distribution, which has no `cir`, its own."""
    source = _ROOT / "cir" / "_version.py"
    if source.is_file():
        return str(runpy.run_path(str(source))["__version__"])
    return str(email.message_from_string((_ROOT / "PKG-INFO").read_text())["Version"])


setup(
    version=version(),
    install_requires=[
        f"composed-image-retrieval-client=={version()}",
        "cachetools>=6",
        "filelock>=3.30",
        # service_runtime/grpcio_patch.py mends a part that is not public; try it with each new version.
        "grpcio>=1.85.1,<1.86",
        "grpcio-health-checking>=1.85.1",
        "grpcio-reflection>=1.85.1",
        "prometheus-client>=0.21",
        "pydantic>=2.10",
        "pydantic-settings>=2.7",
        "rich>=13",
        "structlog>=24",
        "typer>=0.29",
        "urllib3>=2",
    ],
)
