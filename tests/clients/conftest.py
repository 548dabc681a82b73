"""The search service that the tests of every client talk to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from garments.render import render
from tests.clients.programs import ROOT
from tests.service_runtime.certificates import Authority

COLOURS = ("red", "blue", "green", "yellow", "black")
KINDS = ("dress", "hoodie", "hat")

CUT = {"sleeve": "sleeveless", "length": "long", "neckline": "round"}


def _draw(folder: Path) -> None:
    """Draw a garment of every kind and colour, with a manifest. Yellow and black ones cost 50 and 60."""
    lines = []
    for kind in KINDS:
        for number, colour in enumerate(COLOURS):
            item = f"{colour}-{kind}"
            garment = {"kind": kind, "colour": colour, "pattern": "plain", **CUT}
            image = render(garment, seed=number, size=(192, 256))
            (folder / f"{item}.jpg").write_bytes(image)
            facts = {"kind": kind, "colour": colour, "price": 20 + 10 * number}
            lines.append(json.dumps({"id": item, "image": f"{item}.jpg", **facts}))
    (folder / "items.jsonl").write_text("\n".join(lines))


def _certificates(folder: Path) -> Path:
    """Write an authority, ca.pem, and what it issued to a server and to a client (ca-server.crt, ...).

    Keys are PKCS #8, the one form that Java reads, too.
    """
    authority = Authority(folder, "ca")
    for name in ("server", "client"):
        key = authority.issue(name).key
        loaded = serialization.load_pem_private_key(key.read_bytes(), password=None)
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        key.write_bytes(loaded.private_bytes(*form))
    return folder


def _up(process: subprocess.Popen[bytes], data: Path, log: Path) -> dict[str, str]:
    """Return the addresses of the services, once they are there."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        if (data / "up.json").exists():
            document: dict[str, str] = json.loads((data / "up.json").read_text())
            return document
        time.sleep(0.1)
    raise AssertionError("not up after 180 s")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of a client's tests: a running service with the shipped model and catalog "shop"."""
    data, images = tmp_path_factory.mktemp("client") / "data", tmp_path_factory.mktemp("images")
    _draw(images)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CIR_")}
    command = [sys.executable, "-m", "cir_cli"]
    log = images / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "up", "--data", str(data), "--port", "0", "--no-web"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=clean,
        )
    try:
        up = _up(process, data, log)
        index = [*command, "index", "shop", str(images / "items.jsonl"), "--data", str(data)]
        subprocess.run(index, check=True, timeout=300, env=clean)
        yield {
            **clean,
            "CIR_TEST_SERVER": up["search"],
            "CIR_TEST_EMBEDDER": up["embedder"],
            "CIR_TEST_COMBINER": up["combiner"],
            "CIR_TEST_IMAGES": str(images),
            "CIR_TEST_IMPORTS": str(ROOT / "clients" / "imports.json"),
            "CIR_TEST_TLS": str(_certificates(tmp_path_factory.mktemp("tls"))),
        }
    finally:
        process.terminate()
        process.wait(timeout=60)
