"""Write the pictures of docs/demo.md: the web demo over drawn garments, in headless Chromium.

python -m scripts.screenshots [FOLDER]
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import threading
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from benchmarks._garments_up import garments_up
from garments.render import SIZE

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
    "--disable-background-networking",
]
_START = "/?c=garments&x0=a+red+dress"
_SHOTS = {
    "wall": ("/?c=garments&s=4", 1360, 850, "light"),
    "results": (f"{_START}&x1=with+stripes", 1360, 850, "light"),
    "phone": (f"{_START}&x1=in+blue", 390, 844, "light"),
    "dark": (f"{_START}&x1=with+dots&v=sum", 1360, 850, "dark"),
}


def main(folder: Path) -> None:
    """Draw, index, look."""
    folder.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with garments_up(1200, image_size=SIZE, web=True, known_queries=True) as up, sync_playwright() as playing:
        browser = playing.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        for shot, (path, width, height, scheme) in _SHOTS.items():
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
                locale="en-GB",
                device_scale_factor=1.5 if width < 500 else 1,
            )
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{up.web_port}{path}", wait_until="networkidle")
            with Image.open(io.BytesIO(page.screenshot())) as picture:
                picture.save(folder / f"{shot}.webp", "WEBP", quality=84, method=6)
            context.close()
        browser.close()


if __name__ == "__main__":
    # Signals are for the main thread, where `running` listens for them.
    assert threading.current_thread() is threading.main_thread()
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
