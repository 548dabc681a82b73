"""The page below a path of a site, behind a real nginx, over plain http and https, in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from cir_cli.local.readiness import free_ports
from garments.render import render
from tests.service_runtime.certificates import Authority
from tests.web_demo.browsing import CHROMIUM, FLAGS, Demo, until
from tests.web_demo.test_log_contents import status

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin") or ""
ROOT = Path(__file__).parents[2]
# A name that is neither secure by itself nor this machine, as on a local network.
SITE = "shop.test"
CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 128; }}
http {{
  access_log off;
  client_max_body_size 32m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{plain};
    listen 127.0.0.1:{secure} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location /try/ {{ proxy_pass http://127.0.0.1:{page}/; }}
    location /left/on/ {{ proxy_pass http://127.0.0.1:{page}; }}
  }}
}}
"""
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed"),
    pytest.mark.skipif(not NGINX, reason="nginx is not installed"),
    pytest.mark.service,
    pytest.mark.browser,
]


@pytest.fixture(scope="module")
def site(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The origin of the site by scheme."""
    folder = tmp_path_factory.mktemp("nginx")
    plain, secure, page = free_ports(3)
    origins = {"http": f"http://{SITE}:{plain}", "https": f"https://{SITE}:{secure}"}
    pair = Authority(folder, "ca").issue("server", names=(SITE,))
    configuration = folder / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(
            folder=folder,
            plain=plain,
            secure=secure,
            page=page,
            certificate=pair.certificate,
            key=pair.key,
        )
    )
    search = json.loads((demo.data / "up.json").read_text())["search"]
    settings = {
        "SEARCH": search,
        "PORT": str(page),
        "DATA": str(folder / "data"),
        "ROOT_PATH": "/left/on",
        # nginx says its own name for the page as Host, and browsers say nothing else over plain http.
        "ORIGINS": json.dumps([origins["http"]]),
    }
    environment = os.environ | {f"CIR_DEMO_{name}": value for name, value in settings.items()}
    commands = (
        ([sys.executable, "-m", "web_demo"], f"http://127.0.0.1:{page}/healthz"),
        ([NGINX, "-c", str(configuration)], f"http://127.0.0.1:{plain}/try/healthz"),
    )
    with (folder / "output").open("wb") as output:
        processes = []
        try:
            for command, address in commands:
                process = subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
                )
                processes.append(process)
                while status(address) != 200:
                    assert process.poll() is None, (folder / "output").read_text()
            yield origins
        finally:
            for process in processes:
                process.terminate()
                process.wait(30)


@pytest.fixture(scope="module")
def visitor() -> Iterator[Browser]:
    """A browser that finds the site here."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        flags = [*FLAGS, f"--host-resolver-rules=MAP {SITE} 127.0.0.1"]
        browser = running.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


# The proxy takes the one path away and leaves the other on.
@pytest.mark.parametrize(("scheme", "prefix"), [("https", "/try"), ("http", "/left/on")])
def test_everything_works_below_a_path(
    visitor: Browser, site: dict[str, str], tmp_path: Path, scheme: str, prefix: str
) -> None:
    context = visitor.new_context(base_url=site[scheme], ignore_https_errors=True, locale="en-GB")
    context.set_default_timeout(15_000)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("response", lambda answer: problems.append(answer.url) if answer.status >= 400 else None)

    page.goto(f"{prefix}/?c=garments")
    assert page.evaluate("isSecureContext") == (scheme == "https")
    until(page, "getComputedStyle(document.querySelector('.brand')).display === 'flex'")
    until(page, "document.querySelector('.brand .mark').naturalWidth > 0")
    until(page, "document.querySelector('.card img').naturalWidth > 50")
    # A picture of one's own, with words.
    own = tmp_path / "own.jpg"
    own.write_bytes(render({"kind": "hat", "colour": "red", "pattern": "plain"}, seed=1, size=(96, 128)))
    page.locator("input[type=file]").set_input_files(own)
    page.locator(".chosen img").wait_for()
    page.locator("#x").fill("in blue")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"u0=[0-9a-f]{32}&x0=in\+blue"))
    until(page, "document.querySelector('.step img').naturalWidth > 50")
    # Judged in place, and more results.
    page.locator(".card").nth(1).get_by_role("button", name=re.compile("^Like")).click()
    page.wait_for_url(re.compile("l0="))
    # The cards are replaced when a judgement is answered: the window is moved, and no card.
    until(
        page, "(scrollTo(0, document.documentElement.scrollHeight), document.querySelector('#r48') !== null)"
    )
    # The link of this page, with and without a clipboard.
    page.get_by_role("button", name="Copy link").click()
    page.get_by_role("button", name="Copied").wait_for()
    # Details, elsewhere, and back to the place.
    page.evaluate("scrollTo(0, 900)")
    results = page.url
    page.evaluate("document.querySelector('.foot a').click()")
    page.wait_for_url(re.compile(f"{prefix}/about"))
    page.go_back()
    page.locator("#r48").wait_for()
    until(page, "scrollY === 900")
    assert page.url == results
    details = page.locator("[data-details]").first.get_attribute("href")
    page.goto(f"{prefix}/{details}")
    page.get_by_role("link", name="Back to the results").click()
    page.wait_for_url(results)
    # A page that is not there leads back to one that is.
    page.goto(f"{prefix}/no/such/page")
    until(page, "getComputedStyle(document.querySelector('.brand')).display === 'flex'")
    until(page, "document.querySelector('.brand .mark').naturalWidth > 0")
    page.locator("main").get_by_role("link", name="Start over").click()
    page.locator(".card").first.wait_for()
    context.close()
    assert {urlsplit(url).path.startswith(f"{prefix}/") for url in asked if url.startswith("http")} == {True}
    assert problems == [f"{site[scheme]}{prefix}/no/such/page"]
