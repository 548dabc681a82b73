"""Run every benchmark, one process each; tables on stdout, JSON under out/benchmarks.

Usage: python -m benchmarks [NAME ...]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "out" / "benchmarks"


def names() -> list[str]:
    """Every benchmark, by module name."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def main(chosen: list[str]) -> int:
    """Run the chosen benchmarks, or all; returns 1 when one of them failed."""
    known = names()
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        print(f"unknown benchmarks {unknown}; there are: {', '.join(known)}", file=sys.stderr)
        return 1
    RESULTS.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in chosen or known:
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(RESULTS / f"{name}.json")]
        if subprocess.run(command, cwd=HERE.parent).returncode != 0:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
