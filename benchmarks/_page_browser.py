"""Figures of a page that a browser tells: first paint over a slow network, bytes, shifts, accessibility."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, sync_playwright

from scripts.screenshots import CHROMIUM_FLAGS

SLOW_BYTES = 400_000 // 8  # a second
_WIDE = {"width": 1280, "height": 850}
_PHONE = {"width": 390, "height": 844}
_PAINT = """() => [
    performance.getEntriesByName("first-contentful-paint")[0].startTime,
    performance.getEntriesByType("navigation")[0].responseStart,
]"""
_SHIFTS = """() => new Promise((tell) => {
    let sum = 0;
    new PerformanceObserver((seen) => {
        for (const one of seen.getEntries()) if (!one.hadRecentInput) sum += one.value;
    }).observe({type: "layout-shift", buffered: true});
    setTimeout(() => tell(sum), 300);
})"""


@contextmanager
def browsing(chromium: str) -> Iterator[Browser]:
    """Yield a browser."""
    with sync_playwright() as playing:
        browser = playing.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@contextmanager
def _page(browser: Browser, origin: str, **options: Any) -> Iterator[Page]:
    context = browser.new_context(base_url=origin, viewport=_WIDE, locale="en-GB", **options)  # type: ignore[arg-type]
    try:
        yield context.new_page()
    finally:
        context.close()


def slow_visit(browser: Browser, origin: str, paths: Sequence[str]) -> list[tuple[float, float, int]]:
    """Visit pages one after the other at 400 kbit/s, with nothing kept at first.

    Returns for each the milliseconds until the first paint and until the first byte, and how many bytes of
    style and script came over the network.
    """
    with _page(browser, origin) as page:
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        slow = {
            "offline": False,
            "latency": 0,
            "downloadThroughput": SLOW_BYTES,
            "uploadThroughput": SLOW_BYTES,
        }
        session.send("Network.emulateNetworkConditions", slow)
        static: set[str] = set()
        received = [0]

        def begun(event: dict[str, Any]) -> None:
            if "/static/" in event["request"]["url"]:
                static.add(event["requestId"])

        def finished(event: dict[str, Any]) -> None:
            if event["requestId"] in static:
                received[0] += int(event["encodedDataLength"])

        session.on("Network.requestWillBeSent", begun)
        session.on("Network.loadingFinished", finished)
        figures = []
        for path in paths:
            received[0] = 0
            page.goto(path, wait_until="load")
            # Until the next page is asked for everything of this one has come.
            page.wait_for_load_state("networkidle")
            paint, byte = page.evaluate(_PAINT)
            figures.append((float(paint), float(byte), received[0]))
        return figures


def shifts(browser: Browser, origin: str, path: str) -> float:
    """Return the cumulative layout shift of a page."""
    with _page(browser, origin) as page:
        page.goto(path, wait_until="networkidle")
        return float(page.evaluate(_SHIFTS))


def violations(browser: Browser, origin: str, paths: Sequence[str]) -> int:
    """Return how many of axe's rules pages break, light and dark, wide and on a phone."""
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    broken = 0
    for scheme in schemes:
        with _page(browser, origin, color_scheme=scheme, bypass_csp=True) as page:
            for size in (_WIDE, _PHONE):
                page.set_viewport_size(size)  # type: ignore[arg-type]
                for path in paths:
                    page.goto(path)
                    broken += len(Axe().run(page).response["violations"])
    return broken
