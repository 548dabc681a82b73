"""Generated code of the clients is what `make clients` writes, byte by byte."""

from __future__ import annotations

import filecmp
from pathlib import Path

import pytest

from tests.clients.programs import ROOT, needs, run

pytestmark = [pytest.mark.clients, pytest.mark.service]

FOLDERS = ("clients/go/gen", "clients/typescript/src/gen")


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@needs("npm", "go")
@pytest.mark.timeout(900)
def test_generated_code_is_what_the_protos_say(tmp_path: Path) -> None:
    run("scripts/buf", "generate", "--output", str(tmp_path), cwd=ROOT)
    for folder in FOLDERS:
        fresh, kept = tmp_path / folder, ROOT / folder
        names = _names(fresh)
        assert len(names) > 8
        assert names == _names(kept), "run `make clients`"
        _, differing, failed = filecmp.cmpfiles(fresh, kept, names, shallow=False)
        assert (differing, failed) == ([], []), "run `make clients`"
