"""What the browser tests share besides fixtures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from garments.render import render

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
HOSTILE = "<script>window.hit=1</script>\"'><img src=x onerror=window.hit=1> ‮ 👗 " + "long" * 60


@dataclass
class Demo:
    """The stack: where its page is, its process, and the drawn catalog."""

    url: str
    process: subprocess.Popen[str]
    folder: Path
    data: Path


def hostile(folder: Path) -> Path:
    """A catalog whose payload and ids mean harm."""
    folder.mkdir()
    rows = []
    for number in range(3):
        name = f"{number}.jpg"
        (folder / name).write_bytes(
            render({"kind": "hat", "colour": "red", "pattern": "plain"}, seed=number, size=(96, 128))
        )
        rows.append(
            {"id": f"x{number}'\"<b>/../{number}", "image": name, "caption": HOSTILE, "colour": "<i>red</i>"}
        )
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest


def until(page: Page, condition: str) -> None:
    """Wait until an expression is true. Playwright's own waiting needs what the pages' policy forbids."""
    for _ in range(150):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"{condition} did not come true on {page.url}")
