"""The page in hard times: a search that hangs or dies, a slow network, two tabs."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.web_demo.browsing import CHROMIUM, Demo, until

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed"),
    pytest.mark.service,
    pytest.mark.browser,
]


def search_process(demo: Demo) -> int:
    """The process of the search service."""
    own = Path("/proc") / str(demo.process.pid) / "task" / str(demo.process.pid) / "children"
    return next(
        int(pid)
        for pid in own.read_text().split()
        if b"search_service" in (Path("/proc") / pid / "cmdline").read_bytes()
    )


def test_a_search_that_hangs_comes_back(page: Page, demo: Demo) -> None:
    page.goto("/?c=garments&x0=a+red+dress")
    search = search_process(demo)
    os.kill(search, signal.SIGSTOP)
    try:
        page.goto("/?c=garments&x0=a+blue+dress")
        assert "tries again by itself" in page.locator("main").inner_text()
    finally:
        os.kill(search, signal.SIGCONT)
    page.locator(".card").first.wait_for(timeout=30_000)
    assert "x0=a+blue+dress" in page.url


def test_a_search_that_is_killed_is_started_again_and_the_page_comes_back(page: Page, demo: Demo) -> None:
    page.goto("/?c=garments&x0=a+red+dress")
    killed = search_process(demo)
    os.kill(killed, signal.SIGKILL)
    page.locator(".box input[name=x]").fill("in blue")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("x1=in\\+blue"))
    page.locator(".card").first.wait_for(timeout=60_000)
    assert page.locator(".step").count() == 2
    assert search_process(demo) != killed


def test_words_are_sent_before_scripts_and_pictures_have_come(page: Page) -> None:
    held: list[Route] = []
    for slow in ("**/*.js?*", "**/picture?*"):
        page.route(slow, lambda route: held.append(route))
    page.goto("/?c=garments", wait_until="commit")
    page.locator("#x").fill("a red dress")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("x0=a\\+red\\+dress"), wait_until="commit")
    page.locator("#r24").wait_for()
    assert page.locator(".switch button").first.is_hidden()  # nothing flashes until the modules run
    place = page.locator("#r9").bounding_box()
    # A judgement without the module that makes it quick: another page, the same answer.
    page.locator("#r2").get_by_role("button", name=re.compile("^Like")).click()
    page.wait_for_url(re.compile("l0="), wait_until="commit")
    page.locator(".tray .judged").wait_for()
    assert held
    page.unroute_all()
    page.goto("/?c=garments&x0=a+red+dress")
    until(page, "document.querySelector('#r9 img').complete")
    assert page.locator("#r9").bounding_box() == place  # pictures that come late move nothing


def test_two_tabs_go_their_own_ways(page: Page) -> None:
    page.goto("/?c=garments&x0=a+red+dress")
    other = page.context.new_page()
    other.goto(page.url)
    other.locator("#r3").get_by_role("button", name=re.compile("^Like")).click()
    other.wait_for_url(re.compile("l0="))
    other.locator(".tray .judged").wait_for()
    page.locator(".box input[name=x]").fill("in blue")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("x1=in\\+blue"))
    assert "l0=" not in page.url
    assert page.locator(".tray .judged").count() == 0
    other.locator(".box input[name=x]").fill("with stripes")
    other.keyboard.press("Enter")
    other.wait_for_url(re.compile("l0=.*x1=with\\+stripes"))
    assert page.locator(".step").all_inner_texts() != other.locator(".step").all_inner_texts()
    page.reload()
    assert "with stripes" not in page.locator(".steps").inner_text()
