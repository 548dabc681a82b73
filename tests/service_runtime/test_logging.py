"""Log lines go to stderr, in the service's format once that is set up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from service_runtime.logging import configure_logging, get_logger
get_logger().warning("careful", items=3)
configure_logging("info", "json")
get_logger().info("serving", port=1)
print("result")
"""


@pytest.mark.service
def test_a_library_that_logs_leaves_the_output_alone() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=root, check=True, capture_output=True, encoding="utf-8"
    )
    assert done.stdout == "result\n"
    first, second = done.stderr.splitlines()
    assert "careful" in first
    assert "items=3" in first
    line = json.loads(second)
    assert (line["event"], line["port"], line["level"]) == ("serving", 1, "info")
