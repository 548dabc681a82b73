"""The web demo of another commit, from its archive, with the services of that commit."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cir_cli.local.readiness import free_ports

ROOT = Path(__file__).resolve().parent.parent
# A program reads its arguments from the first that a commit has.
_COMMANDS = ("cir_cli", "cir")


@contextmanager
def former_page(commit: str, manifest: Path, *, timeout: float = 180.0) -> Iterator[tuple[int, Path]]:
    """Start `cir up` of a commit and index a manifest as catalog "garments".

    Yields the port of its page and its data folder.

    Raises:
        RuntimeError: it does not come up.
    """
    with tempfile.TemporaryDirectory() as name:
        tree, data = Path(name) / "tree", Path(name) / "data"
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True)
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as packed:
            packed.extractall(tree, filter="data")
        module = next(each for each in _COMMANDS if (tree / each / "__main__.py").exists())
        environment = os.environ | {"PYTHONPATH": str(tree)}
        command = [sys.executable, "-P", "-m", module]
        search, web = free_ports(2)
        log = Path(name) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "up", "--data", str(data), "--port", str(search), "--web-port", str(web)],
                cwd=name,
                env=environment,
                stdout=output,
                stderr=output,
            )
        try:
            deadline = time.monotonic() + timeout
            while "\nup; " not in log.read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the services of {commit} do not come up:\n{log.read_text()}")
                time.sleep(0.2)
            index = [*command, "index", "garments", str(manifest), "--data", str(data)]
            subprocess.run(index, cwd=name, env=environment, check=True, capture_output=True)
            yield web, data
        finally:
            process.terminate()
            process.wait(60)
