"""docs/tutorial.md, block by block as it stands, against the services that its first block starts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)

pytestmark = [pytest.mark.service, pytest.mark.slow]


@dataclass
class Reader:
    """Somebody who does what the tutorial says, in a folder, with other ports than its own."""

    folder: Path
    ports: dict[str, int]
    environment: dict[str, str]

    def said(self, text: str) -> str:
        for written, port in self.ports.items():
            text = text.replace(f"localhost:{written}", f"localhost:{port}")
        return text

    def run(self, command: list[str], folder: Path | None = None) -> str:
        done = subprocess.run(
            command,
            cwd=folder or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, (command[-1][:400], done.stdout, done.stderr)
        return done.stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "bin").mkdir()
    for name, module in (("cir", "cir_cli"), ("python", "")):
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -P {"-m " + module if module else ""} "$@"\n')
        script.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CIR_")}
    clean |= {"PATH": f"{folder / 'bin'}:{clean['PATH']}", "no_proxy": "*", "PYTHONPATH": str(ROOT)}
    start = BLOCKS[0][1].strip()
    assert start == "cir up --http-port 8081"
    command = [str(folder / "bin" / "cir"), "up", "--http-port", "0", "--port", "0", "--no-web"]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=clean, stdout=log, stderr=subprocess.STDOUT)
    try:
        found = folder / "cir-data" / "up.json"
        deadline = time.monotonic() + 240
        while not found.exists():
            assert process.poll() is None, (folder / "up.log").read_text()
            assert time.monotonic() < deadline, (folder / "up.log").read_text()
            time.sleep(0.1)
        up = json.loads(found.read_text())
        ports = {"50050": int(up["search"].rpartition(":")[2]), "8081": int(up["http"].rpartition(":")[2])}
        yield Reader(folder, ports, clean)
    finally:
        process.terminate()
        process.wait(timeout=60)


KINDS = ["sh", "sh", "json", "python", "text", "python", "text", "sh", "sh", "go", "sh"]
DRAWING, LINE, UPLOADING, UPLOADED, ASKING, ANSWERED, CURL, MAKING, PROGRAM, RUNNING = (
    text for _, text in BLOCKS[1:]
)


@pytest.fixture(scope="module")
def catalog(reader: Reader) -> Reader:
    """The reader after the third part."""
    assert [kind for kind, _ in BLOCKS] == KINDS
    reader.run(["sh", "-ec", DRAWING])
    assert LINE in (reader.folder / "drawn" / "garments.jsonl").read_text()
    assert reader.run(["python", "-c", reader.said(UPLOADING)]) == UPLOADED
    return reader


def test_python_gets_the_answer_of_the_document(catalog: Reader) -> None:
    assert catalog.run(["python", "-c", catalog.said(ASKING)]) == ANSWERED


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_gets_the_same_answer(catalog: Reader) -> None:
    results = json.loads(catalog.run(["sh", "-ec", catalog.said(CURL)]))["results"]
    assert [f"{one['rank']} {one['item']['id']}" for one in results] == ANSWERED.splitlines()


@pytest.mark.clients
@pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed")
def test_go_gets_the_same_answer(catalog: Reader) -> None:
    shutil.copytree(ROOT / "clients" / "go", catalog.folder / "composed-image-retrieval" / "clients" / "go")
    catalog.run(["sh", "-ec", MAKING])
    program = catalog.folder / "program"
    (program / "main.go").write_text(catalog.said(PROGRAM))
    assert catalog.run(["sh", "-ec", RUNNING], program) == ANSWERED
