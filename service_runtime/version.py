"""The version of the software, as info answers give it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "composed-image-retrieval"


def software_version() -> str:
    """The installed distribution's version; "unknown" when run from a source tree that is not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"
