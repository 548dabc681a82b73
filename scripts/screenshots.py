"""Write the pictures of docs/demo.md: the web demo over drawn garments, in headless Chromium.

python -m scripts.screenshots [FOLDER]
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from cir_cli.local.plan import SHIPPED, SHIPPED_MODEL, UpOptions
from cir_cli.local.processes import running
from cir_cli.local.readiness import free_ports
from cir_cli.run_index import run_index
from garments.catalog import make_catalog

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
    with tempfile.TemporaryDirectory() as name:
        made = make_catalog(Path(name) / "garments", size=1200, seed=1, workers=os.cpu_count() or 1)
        search, embedder, combiner, web = free_ports(4)
        options = UpOptions(
            Path(name) / "data",
            SHIPPED_MODEL,
            SHIPPED,
            "127.0.0.1",
            search,
            embedder,
            combiner,
            web_port=web,
            known_queries=(made.triplets,),
        )
        with running(options, start_timeout=120, on_serving=lambda spec: None):
            run_index(
                catalog="garments",
                path=made.manifest,
                root=None,
                text_fields=(),
                image_base="",
                store_url=options.store,
                store_api_key="",
                embedder=f"127.0.0.1:{embedder}",
                quiet=True,
            )
            with sync_playwright() as playing:
                browser = playing.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
                for shot, (path, width, height, scheme) in _SHOTS.items():
                    context = browser.new_context(
                        viewport={"width": width, "height": height},
                        color_scheme="dark" if scheme == "dark" else "light",
                        locale="en-GB",
                        device_scale_factor=1.5 if width < 500 else 1,
                    )
                    page = context.new_page()
                    page.goto(f"http://127.0.0.1:{web}{path}", wait_until="networkidle")
                    with Image.open(io.BytesIO(page.screenshot())) as picture:
                        picture.save(folder / f"{shot}.webp", "WEBP", quality=84, method=6)
                    context.close()
                browser.close()


if __name__ == "__main__":
    # Signals are for the main thread, where `running` listens for them.
    assert threading.current_thread() is threading.main_thread()
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
