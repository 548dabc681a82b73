"""Refusing to write before a disk is full."""

from __future__ import annotations

import os
from pathlib import Path

from vector_store.errors import StoreUnavailable

MIN_FREE_BYTES = 256 << 20
"""Space that an embedded store leaves free. The engine writes into mapped, sparse files: where no block is
left for one of them the operating system ends the process (SIGBUS), so a full disk must not be reached."""


def check_space(folder: Path, min_free_bytes: int, act: str) -> None:
    """Raise `StoreUnavailable` when the disk of `folder` has less than `min_free_bytes` left. Blocks."""
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < min_free_bytes:
        raise StoreUnavailable(
            f"cannot {act}: the disk of {folder} is full ({free >> 20} MiB left, {min_free_bytes >> 20} MiB "
            "must stay free); delete old versions or make room, and try again"
        )
