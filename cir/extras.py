"""Names of the two distributions, and the words of every message that asks for an extra of one."""

from __future__ import annotations

SERVICES = "composed-image-retrieval"
CLIENT = "composed-image-retrieval-client"


def install(extra: str, of: str = SERVICES) -> str:
    """Return what to do where the modules of an extra are missing."""
    return f'install the extra [{extra}] with: pip install "{of}[{extra}]"'
