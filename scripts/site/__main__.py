"""Build the site: python -m scripts.site [FOLDER]. Without a folder it is out/docs."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from scripts.site.build import build

ROOT = Path(__file__).resolve().parents[2]

if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "out" / "docs"
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), target.resolve())
    print(f"{target}/index.html")
