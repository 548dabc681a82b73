"""Write the pictures of docs/demo.md: the web demo over drawn garments, in headless Chromium.

python -m scripts.screenshots [FOLDER]
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
_WIDE, _TABLET, _PHONE = (1360, 850), (820, 1180), (390, 844)


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture: an address, the selector of a link to follow from there, and how it is looked at."""

    path: str
    size: tuple[int, int] = _WIDE
    scheme: Literal["light", "dark"] = "light"
    locale: str = "en-GB"
    follow: str = ""


_SHOTS = {
    "wall": Shot("/?c=garments"),
    "results": Shot(f"{_START}&x1=with+stripes"),
    "phone": Shot(f"{_START}&x1=in+blue", _PHONE),
    "dark": Shot(f"{_START}&x1=with+dots&v=sum", scheme="dark"),
    "queries": Shot("/?c=garments", follow=".note a"),
    "chinese": Shot(f"{_START}&x1=in+blue", _TABLET, "dark", "zh-CN"),
}


def main(folder: Path) -> None:
    """Draw, index, look."""
    folder.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with garments_up(1200, image_size=SIZE, web=True, known_queries=True) as up, sync_playwright() as playing:
        browser = playing.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        for name, shot in _SHOTS.items():
            width, height = shot.size
            context = browser.new_context(
                base_url=f"http://127.0.0.1:{up.web_port}",
                viewport={"width": width, "height": height},
                color_scheme=shot.scheme,
                locale=shot.locale,
                device_scale_factor=1.5 if width < 500 else 1,
                has_touch=width < 900,
                is_mobile=width < 900,
            )
            page = context.new_page()
            page.goto(shot.path, wait_until="networkidle")
            if shot.follow:
                page.locator(shot.follow).first.click()
                page.wait_for_load_state("networkidle")
            with Image.open(io.BytesIO(page.screenshot())) as picture:
                picture.save(folder / f"{name}.webp", "WEBP", quality=84, method=6)
            context.close()
        browser.close()


if __name__ == "__main__":
    # Signals are for the main thread, where `running` listens for them.
    assert threading.current_thread() is threading.main_thread()
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
