"""The stack with a Qdrant server: several search services over one catalog, replaced while they are used."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import cir
from tests.deploy.load import Load
from tests.deploy.stack import GARMENTS, IN_CONTAINERS, Stack, environment, why_no_image

CATALOG = "garments"
QDRANT = "qdrant/qdrant:v1.18.3"

pytestmark = IN_CONTAINERS


@pytest.fixture(scope="module")
def stack(images: None, pictures: Path) -> Iterator[Stack]:
    if reason := why_no_image(QDRANT):
        pytest.skip(reason)
    ports = {"CIR_SEARCH_PORTS": "50170-50172"}
    stack = Stack("cirserver", [], environment(pictures, number=2) | ports)
    with stack.running():
        stack.compose("run", "--rm", "indexer", "index", CATALOG, "/pictures/garments.jsonl")
        yield stack


@contextmanager
def load_inside(stack: Stack, items: list[str]) -> Iterator[dict[str, Any]]:
    """A load from a container of the network, which finds search by its name; filled when the block ends."""
    script = Path(__file__).with_name("load.py")
    command = stack.python_inside("-i", "-v", f"{script}:/load.py:ro")
    command += ["/load.py", "search:50050", CATALOG]
    outcome: dict[str, Any] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        process.stdin.write(" ".join(items) + "\n")
        process.stdin.flush()
        try:
            yield outcome
        finally:
            out, _ = process.communicate(timeout=90)
        outcome |= json.loads(out.splitlines()[-1])


def test_search_services_are_replaced_without_a_failed_search(stack: Stack, items: list[str]) -> None:
    stack.compose("up", "-d", "--no-recreate", "--scale", "search=2", "search")
    stack.wait_healthy("search", 2)
    old = set(stack.containers("search"))
    # Of three ports two are taken at any time, other ones after a replacement.
    ports = "ipv4:127.0.0.1:50170,127.0.0.1:50171,127.0.0.1:50172"
    with cir.Client(ports) as client:
        version = client.catalog(CATALOG).published
        assert version is not None
        assert version.item_count == GARMENTS
    with load_inside(stack, items) as inside, Load(ports, CATALOG, items) as load:
        load.more(20)
        stack.rolling("search")
        load.more(20)
    new = set(stack.containers("search"))
    assert len(new) == 2
    assert not new & old
    assert not load.errors, (load.errors, load.messages[:3])
    assert not inside["errors"], inside
    print(f"inside the network: {inside}")
    assert inside["answered"] > 40
