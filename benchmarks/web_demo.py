"""Figures of a page of the web demo: bytes, time of the server, first paint, shifts, accessibility.

    python -m benchmarks.web_demo [--turns 200] [--visits 9] [--before COMMIT] [--json FILE]

Over drawn garments and the shipped models. With --before the page of another commit is measured by turns with
this one, in the same run, with the services of that commit.

The time of the server is what the page's process computes for a page, by the scheduler's count, search left
out. So is the time that passes: in each round the search is asked directly, then through the page, and an
answer without content is fetched, which costs what HTTP itself costs; the page's median less the two others.

What a browser tells needs Chromium (or CHROMIUM, its path): first paint at 400 kbit/s of a first visit and of
the page after it, style and script that the second page brings, cumulative layout shift, and axe on each
state.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks._former_page import former_page
from benchmarks._garments_up import CATALOG, garments_up
from cir.async_client import AsyncClient
from cir.turns import Turn

PAGE_SIZE = 24
WORDS = ("a red dress", "with stripes", "in blue", "longer", "with short sleeves", "in green")
# Key of a figure, its words, and what it should be at most.
FIGURES = (
    ("html_1_kb", "HTML of results on the wire, 1 turn, kB", 12.0),
    ("html_16_kb", "HTML of results on the wire, 16 turns, kB", 12.0),
    ("cpu_p50_ms", "computed by the page's process a turn, p50, ms", 8.0),
    ("own_p50_ms", "passes beyond search and HTTP a turn, p50, ms", 8.0),
    ("first_visit_ms", "first paint at 400 kbit/s, first visit, p50, ms", 600.0),
    ("first_visit_after_byte_ms", "the same after the first byte, p50, ms", 600.0),
    ("second_page_ms", "first paint at 400 kbit/s, second page, p50, ms", 600.0),
    ("second_static_bytes", "style and script of a second page, bytes", 0.0),
    ("shift", "cumulative layout shift, largest", 0.0),
    ("violations", "rules of axe that are broken, light and dark, wide and phone", 0.0),
)


@dataclass
class Site:
    """A page: where it is, its process, and what was measured."""

    name: str
    port: int
    pid: int
    report: dict[str, float] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Origin of its addresses."""
        return f"http://127.0.0.1:{self.port}"

    def cpu_ns(self) -> int:
        """Return the nanoseconds that the threads of its process have computed."""
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)


def main() -> None:
    """Start everything, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--visits", type=int, default=9)
    parser.add_argument(
        "--before", default="", metavar="COMMIT", help="another page, measured by turns with this"
    )
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    with ExitStack() as stack:
        up = stack.enter_context(garments_up(600, web=True))
        sites = [Site("now", up.web_port, page_of(up.web_port))]
        if options.before:
            manifest = up.data.parent / "garments" / "garments.jsonl"
            port, _ = stack.enter_context(former_page(options.before, manifest))
            sites.append(Site(options.before, port, page_of(port)))
        asyncio.run(measure(sites, up.port, options.turns))
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        if chromium:
            browse(chromium, sites, options.visits)
    print_table(sites)
    if options.json:
        options.json.write_text(json.dumps({site.name: site.report for site in sites}, indent=2) + "\n")


def page_of(port: int) -> int:
    """Return the process of the page that listens on a port of this machine."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # Local address, state (0A listens) and inode.
    inodes = [line[9] for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "0A"]
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and is_open(process, inodes):
            return int(process.name)
    raise LookupError(f"nothing listens on port {port}")


def is_open(process: Path, inodes: Iterable[str]) -> bool:
    """Return True when a process holds one of the sockets."""
    sockets = {f"socket:[{inode}]" for inode in inodes}
    try:
        return any(os.readlink(each) in sockets for each in (process / "fd").iterdir())
    except OSError:
        return False


def results_path(turns: int, number: int = 0) -> str:
    """Return the address of results of so many turns; other ones for another number."""
    said = [(f"x{turn}", f"{WORDS[turn % len(WORDS)]} {number or ''}".strip()) for turn in range(turns)]
    return f"/?{urlencode([('c', CATALOG), *said])}"


async def measure(sites: Sequence[Site], search: int, turns: int) -> None:
    """Measure bytes and times, one page after the other, the sites by turns."""
    passed: dict[str, list[float]] = {what: [] for what in ("search", "page", "http")}
    computed: dict[str, list[float]] = {site.name: [] for site in sites}
    async with AsyncClient(f"127.0.0.1:{search}") as client, httpx.AsyncClient(timeout=30) as pages:
        for site in sites:
            for count in (1, 16):
                url = f"{site.origin}{results_path(count)}"
                answer = await pages.get(url, headers={"Accept-Encoding": "gzip"})
                site.report[f"html_{count}_kb"] = answer.raise_for_status().num_bytes_downloaded / 1000
        for number in range(1, turns + 1):
            began = time.perf_counter()
            said = [Turn(text=f"{WORDS[0]} {number} asked"), Turn(text=WORDS[1])]
            await client.search(CATALOG, turns=said, page_size=PAGE_SIZE)
            passed["search"].append(time.perf_counter() - began)
            for site in sites:
                before, began = site.cpu_ns(), time.perf_counter()
                (await pages.get(f"{site.origin}{results_path(2, number)}")).raise_for_status()
                if site is sites[0]:
                    passed["page"].append(time.perf_counter() - began)
                computed[site.name].append((site.cpu_ns() - before) / 1e6)
            began = time.perf_counter()
            (await pages.get(f"{sites[0].origin}/healthz")).raise_for_status()
            passed["http"].append(time.perf_counter() - began)
    for site in sites:
        site.report["cpu_p50_ms"] = statistics.median(computed[site.name])
    medians = {what: statistics.median(times) * 1000 for what, times in passed.items()}
    sites[0].report["own_p50_ms"] = medians["page"] - medians["search"] - medians["http"]


def browse(chromium: str, sites: Sequence[Site], visits: int) -> None:
    """Measure what a browser tells, the sites by turns."""
    from benchmarks._page_browser import browsing, shifts, slow_visit, violations

    states = (
        f"/?c={CATALOG}",
        results_path(1),
        f"{results_path(3)}&v=sum&f=colour%3Ared",
        f"{results_path(1)}&f=colour%3Anone",
        f"/about?c={CATALOG}",
        "/?c=nothing",
        "/nowhere",
    )
    paints: dict[str, list[tuple[float, float, float]]] = {site.name: [] for site in sites}
    with browsing(chromium) as browser:
        for number in range(visits):
            for site in sites:
                paths = (f"/?c={CATALOG}", results_path(1, number + 1), results_path(2, number + 1))
                (first, byte, _), (second, _, static), *_ = slow_visit(browser, site.origin, paths)
                paints[site.name].append((first, first - byte, second))
                site.report["second_static_bytes"] = float(static)
        for site in sites:
            keys = ("first_visit_ms", "first_visit_after_byte_ms", "second_page_ms")
            for key, values in zip(keys, zip(*paints[site.name], strict=True), strict=True):
                site.report[key] = statistics.median(values)
            site.report["shift"] = max(shifts(browser, site.origin, path) for path in states[:3])
            site.report["violations"] = float(violations(browser, site.origin, states))


def print_table(sites: Sequence[Site]) -> None:
    """Print each figure of each site, and what it should be at most."""
    table = Table("", "at most", *(site.name for site in sites))
    for key, words, most in FIGURES:
        values = [site.report.get(key) for site in sites]
        table.add_row(words, f"{most:g}", *("" if value is None else f"{value:.4g}" for value in values))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
