"""What a page of the web demo costs beyond the search that it asks for.

    python -m benchmarks.web_demo [--turns 200] [--json FILE]

In each round the search is asked directly, then through the page, and an answer without content is fetched,
which costs what HTTP itself costs client and server: the page's median less the two others is the page's own
time. Text turns that nobody has asked before, over drawn garments and the shipped models.

Where Chromium is there (or named by CHROMIUM), it also opens pages and tells when the largest of what is seen
at first, a picture of a result, is painted after the first byte of the page.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks._garments_up import CATALOG, garments_up
from cir.async_client import AsyncClient
from cir.turns import Turn
from web_demo.delivery import static_versions

PAGE_SIZE = 24
WHAT = ("search", "page", "http")


def main() -> None:
    """Start everything, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    with garments_up(600, web=True) as up:
        report = asyncio.run(measure(up.port, up.web_port, options.turns))
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        visible = painted(chromium, up.web_port, 20) if chromium else []
    table = Table("", "p50 ms", "p99 ms")
    for what in WHAT:
        table.add_row(what, f"{report[f'{what}_p50_ms']:.1f}", f"{report[f'{what}_p99_ms']:.1f}")
    Console().print(table)
    print(f"the page's own time, p50: {report['own_p50_ms']:.1f} ms (goal: at most 10)")
    print(f"first page without images, as sent: {report['first_page_bytes'] / 1000:.1f} kB")
    print(f"results of two turns, as sent: {report['results_page_bytes'] / 1000:.1f} kB (goal: 12)")
    if visible:
        report["painted_p50_ms"], report["painted_most_ms"] = statistics.median(visible), max(visible)
        print(
            f"results painted after the page's first byte: {report['painted_p50_ms']:.0f} ms, "
            f"{report['painted_most_ms']:.0f} at most (goal: below 300)"
        )
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


async def measure(search: int, web: int, turns: int) -> dict[str, float]:
    """Milliseconds of searches and of pages, one after the other."""
    seconds: dict[str, list[float]] = {what: [] for what in WHAT}
    async with (
        AsyncClient(f"127.0.0.1:{search}") as client,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{web}", timeout=30) as pages,
    ):
        first = [
            await pages.get(path)
            for path in ("/", *(f"/{address}" for address in static_versions().values()))
        ]
        wire = await pages.get(
            f"/?c={CATALOG}&x0=a+red+dress&x1=in+blue", headers={"Accept-Encoding": "gzip"}
        )
        for number in range(turns):
            said = [Turn(text=f"a red dress {number}"), Turn(text="in blue")]
            began = time.perf_counter()
            await client.search(CATALOG, turns=said, page_size=PAGE_SIZE)
            seconds["search"].append(time.perf_counter() - began)
            url = f"/?c={CATALOG}&x0=a+green+hat+{number}&x1=in+blue"
            began = time.perf_counter()
            (await pages.get(url)).raise_for_status()
            seconds["page"].append(time.perf_counter() - began)
            began = time.perf_counter()
            (await pages.get("/healthz")).raise_for_status()
            seconds["http"].append(time.perf_counter() - began)
    report = {}
    for what, taken in seconds.items():
        report[f"{what}_p50_ms"] = statistics.median(taken) * 1000
        report[f"{what}_p99_ms"] = statistics.quantiles(taken, n=100)[98] * 1000
    report["own_p50_ms"] = report["page_p50_ms"] - report["search_p50_ms"] - report["http_p50_ms"]
    report["first_page_bytes"] = float(sum(answer.num_bytes_downloaded for answer in first))
    report["results_page_bytes"] = float(wire.num_bytes_downloaded)
    return report


def painted(chromium: str, web: int, pages: int) -> list[float]:
    """Milliseconds from a page's first byte to its largest paint, for texts that were not asked before."""
    from playwright.sync_api import sync_playwright

    from scripts.screenshots import CHROMIUM_FLAGS

    largest = """() => new Promise(tell => new PerformanceObserver(seen => tell(
        seen.getEntries().at(-1).startTime - performance.getEntriesByType("navigation")[0].responseStart
    )).observe({type: "largest-contentful-paint", buffered: true}))"""
    with sync_playwright() as playing:
        browser = playing.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 850})
        milliseconds = []
        for number in range(pages):
            text = f"a+{('red', 'blue', 'green', 'white')[number % 4]}+dress+number+{number}"
            page.goto(f"http://127.0.0.1:{web}/?c={CATALOG}&x0={text}", wait_until="networkidle")
            milliseconds.append(float(page.evaluate(largest)))
        browser.close()
    return milliseconds[1:]  # the first one starts the browser's own machinery


if __name__ == "__main__":
    main()
