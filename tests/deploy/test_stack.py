"""The embedded stack in containers: indexed, scaled, killed, replaced and published to under load."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import cir
from cir.errors import CirError
from combiner_service.garments.catalog import make_catalog
from tests.deploy.stack import Load, Stack, run

GARMENTS = 500
CATALOG = "garments"


def _why_not() -> str:
    if shutil.which("docker-compose") is None:
        return "docker-compose is not installed"
    done = subprocess.run(["docker", "info"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "no Docker engine answers"


pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(_why_not()), reason=_why_not()),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures") / "garments"
    make_catalog(folder, size=GARMENTS, seed=3, workers=2, picture=(192, 256))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)  # containers run as another user
    for parent in folder.parents[:4]:
        if parent != Path("/tmp") and parent.is_relative_to("/tmp"):
            parent.chmod(0o755)
    return folder


def _environment(pictures: Path) -> dict[str, str]:
    has_base = subprocess.run(
        ["docker", "image", "inspect", "cir-base:bookworm"], capture_output=True, check=False
    )
    base = {"BASE_IMAGE": "cir-base:bookworm"} if has_base.returncode == 0 else {}
    return {
        "CIR_PICTURES": str(pictures),
        "CIR_CONNECTION_AGE_SECONDS": "3",
        "CIR_SEARCH_PORTS": "50150",
        **{name: os.environ.get(name, value) for name, value in base.items()},
    }


@pytest.fixture(scope="module")
def stack(pictures: Path) -> Iterator[Stack]:
    stack = Stack("cirtest", ["embedded"], _environment(pictures))
    stack.compose("--profile", "index", "build", timeout=1500)
    stack.compose("down", "--volumes")
    try:
        stack.compose("up", "-d")
        stack.wait_healthy("search")
        stack.compose("run", "--rm", "indexer", "index", CATALOG, "/pictures/garments.jsonl", "--json")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "5")


@pytest.fixture(scope="module")
def items(pictures: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (pictures / "garments.jsonl").read_text().splitlines()]


def _count(client: cir.Client, catalog: str) -> int:
    version = client.catalog(catalog).published
    assert version is not None
    return version.item_count


def test_what_was_indexed_in_a_container_is_found_from_outside(stack: Stack, pictures: Path) -> None:
    rows = [json.loads(line) for line in (pictures / "triplets.jsonl").read_text().splitlines()]
    asked = [row for row in rows if "reference" in row and row["split"] == "test"][:25]
    name = {row["image"]: row["id"] for row in map(json.loads, (pictures / "garments.jsonl").open())}
    found = 0
    with cir.Client(stack.address()) as client:
        assert _count(client, CATALOG) == GARMENTS
        for row in asked:
            answer = client.search(CATALOG, item=name[row["reference"]], text=row["text"], limit=10)
            assert answer.explanation.combiner == "combiner/garments"
            found += bool({result.id for result in answer} & {name[target] for target in row["targets"]})
        # The same data in this process: the same pixels through the same weights.
        from embedder_service.decode import Decoder
        from embedder_service.load import load
        from embedder_service.settings import EmbedderSettings

        held = load(EmbedderSettings(architecture="cir-small", pretrained="shipped", dtype="float32"))
        own = (pictures / asked[0]["reference"]).read_bytes()
        features = held.model.encode_images(held.preprocessor(Decoder()(own))[None])[0]
        by_features = client.search(CATALOG, features=features, text=asked[0]["text"], limit=10)
        by_picture = client.search(CATALOG, image=own, text=asked[0]["text"], limit=10)
        assert [result.id for result in by_features] == [result.id for result in by_picture]
    assert found >= 0.8 * len(asked)


def test_containers_may_do_nothing_but_their_work(stack: Stack) -> None:
    for service in ("embedder", "combiner", "search"):
        container = stack.containers(service)[0]
        described = stack.inspect(container)
        assert described["Config"]["User"] == "10001:10001"
        assert described["HostConfig"]["ReadonlyRootfs"] is True
        assert described["HostConfig"]["CapDrop"] == ["ALL"]
        status = run(["docker", "exec", container, "cat", "/proc/1/status"])
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        wrote = subprocess.run(
            ["docker", "exec", container, "touch", "/opt/x"], capture_output=True, check=False
        )
        assert wrote.returncode != 0
        ports = {name for name, bound in described["NetworkSettings"]["Ports"].items() if bound}
        assert ports == ({"50050/tcp"} if service == "search" else set())


def test_load_spreads_over_replicas_that_come_go_and_come_back(stack: Stack, items: list[str]) -> None:
    stack.compose("up", "-d", "--no-recreate", "--scale", "embedder=3", "embedder")
    stack.wait_healthy("embedder", 3)
    replicas = stack.containers("embedder")
    with Load(stack.address(), CATALOG, items, threads=4) as load:
        time.sleep(8)  # a connection's age, and the next look at the name
        before = [stack.calls(replica) for replica in replicas]
        load.more(300)
        shares = [stack.calls(replica) - old for replica, old in zip(replicas, before, strict=True)]
        assert max(shares) <= 1.1 * sum(shares) / 3, shares
        assert min(shares) >= 0.9 * sum(shares) / 3, shares

        os.kill(stack.inspect(replicas[0])["State"]["Pid"], 9)
        load.more(100)
        stack.wait_healthy("embedder", 3)
        time.sleep(8)
        before = [stack.calls(replica) for replica in replicas]
        load.more(150)
        assert all(stack.calls(replica) > old for replica, old in zip(replicas, before, strict=True))
    assert not load.errors, (load.errors, load.messages[:3])
    stack.compose("up", "-d", "--no-recreate", "--scale", "embedder=1", "embedder")


@pytest.mark.parametrize("service", ["embedder", "combiner"])
def test_a_service_is_replaced_under_load_without_a_failed_search(
    stack: Stack, items: list[str], service: str
) -> None:
    old = set(stack.containers(service))
    with Load(stack.address(), CATALOG, items) as load:
        load.more(20)
        stack.rolling(service)
        load.more(20)
    new = set(stack.containers(service))
    assert len(new) == len(old)
    assert not new & old
    assert not load.errors, (load.errors, load.messages[:3])


@pytest.mark.parametrize("service", ["embedder", "combiner", "search"])
def test_a_process_that_is_killed_comes_back_by_itself(stack: Stack, items: list[str], service: str) -> None:
    with Load(stack.address(), CATALOG, items) as load:
        load.more(20)
        stack.kill(service)
        time.sleep(1)
        stack.wait_healthy(service)
        load.more(20)
    assert load.errors.keys() <= {"UNAVAILABLE"}, load.messages[:3]
    with cir.Client(stack.address()) as client:
        assert _count(client, CATALOG) == GARMENTS


def test_an_indexer_that_is_killed_goes_on(stack: Stack) -> None:
    command = ["run", "-d", "indexer", "index", "resumed", "/pictures/garments.jsonl"]
    container = stack.compose(*command).split()[-1]
    deadline = time.monotonic() + 60
    while "Running" not in str(stack.inspect(container)["State"]) or time.monotonic() > deadline:
        time.sleep(0.1)
    time.sleep(4)
    run(["docker", "kill", container])
    run(["docker", "rm", container])
    text = stack.compose("run", "--rm", "indexer", "index", "resumed", "/pictures/garments.jsonl", "--json")
    assert json.loads(text[text.index("{") :])["published"]
    with cir.Client(stack.address()) as client:
        assert _count(client, "resumed") == GARMENTS


def test_a_version_is_published_while_searches_run(stack: Stack, items: list[str], pictures: Path) -> None:
    manifest = pictures / "garments.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows[0]["price"] += 1
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Load(stack.address(), CATALOG, items, threads=1) as load:
        load.more(20)
        stack.compose("run", "--rm", "indexer", "index", CATALOG, "/pictures/garments.jsonl")
        load.more(20)
    assert not load.errors, (load.errors, load.messages[:3])
    changes = [(a, b) for a, b in zip(load.versions, load.versions[1:], strict=False) if a != b]
    assert len(changes) == 1


def test_with_tls_and_keys_nobody_else_is_let_in(stack: Stack, pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    run(["deploy/dev-ca.sh", str(folder)], cwd=Path(__file__).parents[2])
    folder.chmod(0o755)
    for parent in folder.parents[:4]:
        if parent != Path("/tmp") and parent.is_relative_to("/tmp"):
            parent.chmod(0o755)
    secure = Stack(
        "cirtls",
        ["embedded", "tls"],
        _environment(pictures)
        | {
            "CIR_TLS": str(folder),
            "CIR_SEARCH_PORTS": "50160",
            "CIR_SEARCH_API_KEYS": "shop:read:s3cret-key-0123456789",
        },
    )
    files = cir.TlsFiles(folder / "ca.crt", folder / "client.crt", folder / "client.key")
    try:
        secure.compose("up", "-d")
        secure.wait_healthy("search")
        port = secure.address().rpartition(":")[2]
        address = f"localhost:{port}"
        secure.compose("run", "--rm", "indexer", "index", CATALOG, "/pictures/garments.jsonl")
        with cir.Client(address, api_key="s3cret-key-0123456789", tls=files) as client:
            assert client.search(CATALOG, text="a red dress", limit=3).results
        with cir.Client(address, api_key="wrong", tls=files) as client, pytest.raises(CirError) as refused:
            client.search(CATALOG, text="a red dress")
        assert refused.value.code.name == "UNAUTHENTICATED"
        for wrong in (None, cir.TlsFiles(folder / "ca.crt")):
            with (
                cir.Client(address, api_key="s3cret-key-0123456789", tls=wrong, timeout=5) as client,
                pytest.raises(CirError) as refused,
            ):
                client.search(CATALOG, text="a red dress")
            assert refused.value.code.name in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    finally:
        secure.compose("down", "--volumes", "--timeout", "5")
