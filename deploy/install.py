"""Installs what extras of the services ask for into /opt/cir, as the lock pins it, each file by its digest.

    install.py EXTRAS [INDEX]

pip compares digests only where every requirement has one, which a folder cannot have. So the first call asks
what the project in this folder needs, and the second installs that, without the project. INDEX is a further
package index, such as that of torch without CUDA; versions that it alone has are not in the lock, and are
installed by the digests that it states.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

PIP = ["/opt/cir/bin/pip", "install", "--quiet"]


def main(extras: str, index: str) -> None:
    """Resolve, then install."""
    # Some packages have several entries, for different versions of Python.
    entries = {pin(entry): entry for entry in re.split(r"\n(?=\S)", Path("requirements.lock").read_text())}
    constraints, report, pinned = Path("constraints.txt"), Path("report.json"), Path("pinned.txt")
    constraints.write_text("".join(f"{first_line(entry)}\n" for entry in entries.values()))
    more = ["--extra-index-url", index] if index else []
    project = ["./cir", f".[{extras}]"]
    asked = ["--dry-run", "--report", str(report), "--constraint", str(constraints), *project]
    subprocess.run([*PIP, *more, *asked], check=True)
    lines = []
    for package in json.loads(report.read_text())["install"]:
        facts, origin = package["metadata"], package["download_info"]
        if "archive_info" not in origin:
            continue  # the project itself
        requirement = f"{facts['name']}=={facts['version']}"
        entry = entries.get(pin(requirement), "")
        if index and not entry:
            entry = f"{requirement} --hash=sha256:{origin['archive_info']['hashes']['sha256']}"
        if not entry:
            raise SystemExit(f"{requirement} is not in requirements.lock; run make lock")
        lines.append(entry)
    pinned.write_text("\n".join(lines) + "\n")
    subprocess.run([*PIP, *more, "--no-deps", "--require-hashes", "--requirement", pinned], check=True)


def pin(entry: str) -> tuple[str, str]:
    """Return name and version of an entry, the name as indexes compare names."""
    name, _, version = entry.split(maxsplit=1)[0].partition("==")
    return re.sub(r"[-_.]+", "-", name).lower(), version


def first_line(entry: str) -> str:
    """Return name, version and marker."""
    return entry.partition("\n")[0].removesuffix("\\").strip()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")
