"""Pages reach the services by gRPC-Web: a client for browsers speaks to the gateway."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from cir_cli.local.readiness import free_ports
from tests.clients.programs import ROOT, needs, run

pytestmark = [pytest.mark.clients, pytest.mark.service, pytest.mark.torch]

CLIENT = ("@connectrpc/connect@2.3.0", "@connectrpc/connect-web@2.3.0")


@needs("npm")
@pytest.mark.timeout(1800)
def test_a_client_for_browsers_is_answered(environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "page"
    shutil.copytree(
        ROOT / "clients" / "typescript", folder, ignore=shutil.ignore_patterns("node_modules", "dist", "test")
    )
    (folder / "test").mkdir()
    shutil.copy(Path(__file__).with_name("page.test.ts"), folder / "test")
    run("npm", "ci", "--no-audit", "--no-fund", cwd=folder)
    run("npm", "install", "--no-save", "--no-audit", "--no-fund", *CLIENT, cwd=folder)
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    settings = {"CIR_HTTP_PORT": str(port), "CIR_HTTP_SEARCH": environment["CIR_TEST_SERVER"]}
    gateway = subprocess.Popen(
        [sys.executable, "-m", "http_gateway"],
        cwd=ROOT,
        env=environment | settings,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            assert gateway.poll() is None
            with suppress(OSError), urllib.request.urlopen(f"{url}/healthz", timeout=5):
                break
            time.sleep(0.1)
        output = run(
            "npm", "test", cwd=folder, env=environment | {"CIR_TEST_HTTP": url, "PATH": os.environ["PATH"]}
        )
    finally:
        gateway.terminate()
        gateway.wait(60)
    assert "a page searches and reads" in output
    assert "# SKIP" not in output
