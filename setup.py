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
    install_requires=[f"composed-image-retrieval-client=={version()}", "rich>=13", "typer>=0.29"],
)
