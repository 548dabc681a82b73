"""Fuzz the services: mutated requests, hostile pictures, extreme fields, broken streams and connections.

    python scripts/fuzz.py --requests 100000 [--seed N] [--service embedder] [--findings FILE]

Starts embedder (with a small model), combiner and search as processes, sends them the requests, prints what
they answered, and exits with 1 when something was found that must not happen. The findings are written to a
file with the bytes that brought them about.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.robustness.fuzz import Fuzzer, Tally, write_findings  # noqa: E402
from tests.robustness.requests import good_requests  # noqa: E402
from tests.robustness.stack import running_stack  # noqa: E402

# Share of the requests that each service gets.
SHARES = {"embedder": 0.5, "combiner": 0.2, "search": 0.3}


def main() -> int:
    """Run, print the table; 1 when there are findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--service", choices=sorted(SHARES), help="only this one")
    parser.add_argument("--findings", type=Path, default=ROOT / "out" / "fuzz" / "findings.jsonl")
    options = parser.parse_args()
    shares = {options.service: 1.0} if options.service else SHARES
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        for service, share in shares.items():
            started = time.monotonic()
            fuzzer = Fuzzer(service, stack.by_name()[service], good_requests(service), options.seed)
            tally = asyncio.run(fuzzer.run(round(options.requests * share)))
            tallies[service] = tally
            print(
                f"{service}: {tally.requests} requests in {time.monotonic() - started:.0f} s, "
                f"{len(tally.findings)} findings, memory {tally.resident[0] >> 20} MiB at first, "
                f"{tally.growth >> 20} MiB more after the warm-up, {tally.burst >> 20} MiB more at a moment",
                flush=True,
            )
    show(tallies)
    findings = [finding for tally in tallies.values() for finding in tally.findings]
    for finding in findings[:20]:
        print(f"FOUND {finding.service} {finding.attack} {finding.method}: {finding.said}")
    if findings:
        write_findings(findings, options.findings)
        print(f"{len(findings)} findings, with the bytes that brought them about: {options.findings}")
    return 1 if findings else 0


def show(tallies: dict[str, Tally]) -> None:
    """Answers by service, attack and code."""
    table = Table(title="answers")
    for column in ("service", "attack", "requests", "answers"):
        table.add_column(column)
    for service, tally in tallies.items():
        attacks: dict[str, Counter[str]] = {}
        for (attack, code), count in tally.answers.items():
            attacks.setdefault(attack, Counter())[code] += count
        for attack, codes in sorted(attacks.items()):
            said = ", ".join(f"{code} {count}" for code, count in codes.most_common())
            table.add_row(service, attack, str(codes.total()), said)
    Console(width=110).print(table)


if __name__ == "__main__":
    raise SystemExit(main())
