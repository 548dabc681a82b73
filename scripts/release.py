"""Check that the distributions in a folder can be released, and print them; uploads nothing.

Usage: python scripts/release.py dist
"""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENT, SERVICES = "composed_image_retrieval_client", "composed_image_retrieval"


def problems(version: str, changelog: str, lock: str, built: set[str]) -> list[str]:
    """Return what stands in the way of a release of `version`; `built` are file names. Pure."""
    found = []
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        found.append(f"cir/_version.py names {version!r}, expected such as 1.2.3 or 1.2.3rc1")
    headings = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
    if not headings or not re.fullmatch(rf"{re.escape(version)} \(\d{{4}}-\d\d-\d\d\)", headings[0]):
        first = headings[0] if headings else "nothing"
        found.append(f"CHANGELOG.md begins with {first!r}, expected '{version} (YEAR-MONTH-DAY)'")
    if re.search(r"^(-e|composed-image-retrieval|[^ ]+ @ )", lock, re.MULTILINE):
        found.append("requirements.lock names a folder or an address; run make lock")
    wanted = expected(version)
    if built != wanted:
        found.append(f"built: {sorted(built)}, expected: {sorted(wanted)}; run make dist")
    return found


def expected(version: str) -> set[str]:
    """Return the file names of both distributions."""
    return {
        f"{name}-{version}{ending}"
        for name in (CLIENT, SERVICES)
        for ending in (".tar.gz", "-py3-none-any.whl")
    }


def main(arguments: list[str]) -> int:
    """Return 1 where something stands in the way."""
    if len(arguments) != 1:
        raise SystemExit("expected one folder: python scripts/release.py dist")
    folder = Path(arguments[0])
    version = str(runpy.run_path(str(ROOT / "cir" / "_version.py"))["__version__"])
    files = sorted(path for path in folder.iterdir() if path.is_file())
    found = problems(
        version,
        (ROOT / "CHANGELOG.md").read_text(),
        (ROOT / "requirements.lock").read_text(),
        {path.name for path in files},
    )
    print("would be uploaded, the client first:")
    for path in sorted(files, key=lambda path: not path.name.startswith(CLIENT)):
        print(f"  {path.name}  {path.stat().st_size:,} bytes")
    print(f"tag to set: v{version}")
    for problem in found:
        print(f"not yet: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
