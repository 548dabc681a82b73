"""What users sent to the page is in no output of it, however a route fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pytest

from cir_cli.local.readiness import free_ports

MARK = "secret7f3a"
ROOT = Path(__file__).resolve().parents[2]
BOUNDARY = "boundary0"
UPLOAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="picture"; filename="{MARK}.jpg"\r\n\r\n'
    f"{MARK * 1000}\r\n"
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="state"\r\n\r\n?t={MARK}\r\n--{BOUNDARY}--\r\n'
).encode()
PAGES = ("/", "/more", "/item", "/picture", "/uploaded", "/about", "/static/", "/" + MARK)


@pytest.mark.service
@pytest.mark.parametrize("style", ["json", "console"])
def test_no_output_has_what_was_sent_to_a_route_that_fails(tmp_path: Path, style: str) -> None:
    port = free_ports(1)[0]
    written = tmp_path / "output"
    with written.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.web_demo.failing_page"],
            cwd=ROOT,
            stdout=output,
            stderr=output,
            env=os.environ
            | {
                "PYTHONPATH": str(ROOT),
                "PYTHONWARNINGS": "always",
                "CIR_DEMO_PORT": str(port),
                "CIR_DEMO_LOG_FORMAT": style,
                "CIR_DEMO_LOG_LEVEL": "debug",
                "CIR_DEMO_DATA": str(tmp_path / "data"),
            },
        )
    address = f"http://127.0.0.1:{port}"
    try:
        while status(address + "/healthz") != 200:
            assert process.poll() is None, written.read_text()
            time.sleep(0.05)
        headers = {"Accept-Language": MARK, "Cookie": MARK, "User-Agent": MARK, "X-Api-Key": MARK}
        query = "&".join(f"{name}={quote(MARK)}" for name in ("c", "i", "n", "x", "by", "token"))
        failed = [status(f"{address}{page}?{query}", headers) for page in PAGES]
        headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
        failed.append(status(address + "/go", headers, UPLOAD))
        assert failed.count(500) >= len(PAGES)
    finally:
        process.terminate()
        process.wait(60)
    assert MARK not in written.read_text()
    assert written.read_text().count("RuntimeError") >= len(PAGES)
    assert "web_demo/app.py:" in written.read_text()


def status(address: str, headers: dict[str, str] | None = None, content: bytes | None = None) -> int:
    """Return the status of an answer, 0 without one."""
    request = urllib.request.Request(address, content, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as failure:
        with failure:
            return failure.code
    except OSError:
        return 0
