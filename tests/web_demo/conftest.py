"""Pages over a search client in memory; for the browser, over the real services with the shipped models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from starlette.testclient import TestClient

from garments.catalog import make_catalog
from tests.web_demo.browsing import CHROMIUM, FLAGS, Demo, hostile
from tests.web_demo.in_memory import Search, demo_client
from web_demo.settings import DemoSettings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="package")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    root = tmp_path_factory.mktemp("web")
    folder, data = root / "garments", root / "data"
    made = make_catalog(folder, size=600, seed=1, workers=2, image_size=(192, 256))
    environment = os.environ | {"CIR_DEMO_PAGE_SIZE": "24", "CIR_DEMO_CATALOG": "garments"}
    command = [sys.executable, "-m", "tests.web_demo.up_garments", str(data), str(made.triplets)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("up "):
                break
        up = json.loads((data / "up.json").read_text())
        for catalog, source in (("garments", made.manifest), ("hostile", hostile(root / "hostile"))):
            index = [
                sys.executable,
                "-m",
                "cir_cli",
                "index",
                catalog,
                str(source),
                "--data",
                str(data),
                "--quiet",
            ]
            subprocess.run(index, check=True, capture_output=True, timeout=120)
        yield Demo(f"http://{up['web']}", process, folder, data)
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    context = browser.new_context(base_url=demo.url, viewport={"width": 1280, "height": 900}, locale="en-GB")
    context.set_default_timeout(15_000)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert not [text for text in problems if "Failed to load resource" not in text]


@pytest.fixture
def search(tmp_path: Path) -> Search:
    Image.new("RGB", (30, 40), "red").save(tmp_path / "i1.png")
    return Search(tmp_path)


@pytest.fixture
def client(search: Search, tmp_path: Path) -> Iterator[TestClient]:
    settings = DemoSettings(max_upload_bytes=50_000, uploads_per_minute=6, data=tmp_path / "web")
    with demo_client(settings, search, tmp_path) as client:
        yield client
