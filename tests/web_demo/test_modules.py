"""The page's modules run in a document of node's, where each way that fails can be taken."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.clients.programs import needs, run
from web_demo.delivery import STATIC

pytestmark = [pytest.mark.clients, pytest.mark.service]

TESTS = Path(__file__).parent / "js"


@needs("node", "npm")
@pytest.mark.timeout(600)
def test_the_tests_of_every_module_pass(tmp_path: Path) -> None:
    modules = sorted(path.stem for path in STATIC.glob("*.js"))
    assert [path.name.partition(".")[0] for path in sorted(TESTS.glob("*.test.js"))] == modules
    # In a copy, which lies to the modules as these tests do, so that what is installed is not left here.
    copy = tmp_path / "tests" / "web_demo" / "js"
    shutil.copytree(TESTS, copy, ignore=shutil.ignore_patterns("node_modules"))
    shutil.copytree(STATIC, tmp_path / "web_demo" / "static")
    run("npm", "ci", "--no-audit", "--no-fund", cwd=copy)
    output = run("npm", "test", "--", "--test-reporter=tap", cwd=copy)
    assert "# fail 0" in output
    assert "# pass 0" not in output
