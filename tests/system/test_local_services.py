"""`cir up`, `cir index`, `cir search`, `cir doctor` and `cir demo` as a user runs them: as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

import cir
from cir.limits import DEFAULT_COMBINER
from garments.cloth import CLOTH
from garments.render import render
from tests.service_runtime.certificates import Authority

pytestmark = pytest.mark.service

CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
MODEL = ("--model", "small", "--pretrained", "random:1")

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module", autouse=True)
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every embedder of this file holds a model small enough for tests."""
    path = tmp_path_factory.mktemp("model") / "small.json"
    path.write_text(json.dumps(CLIP))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIR_EMBEDDER_MODEL_CONFIG_FILE", str(path))
        patch.delenv("CIR_SERVER", raising=False)
        yield


def run(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "cir_cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@contextmanager
def started(data: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`cir up` on free ports; whatever a test leaves of it is ended."""
    command = [
        sys.executable,
        "-m",
        "cir_cli",
        "up",
        "--data",
        str(data),
        "--port",
        "0",
        "--web-port",
        "0",
        *arguments,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


def wait_until_up(process: subprocess.Popen[str], data: Path) -> dict[str, str]:
    """The content of up.json, once it is there."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if (data / "up.json").exists():
            content: dict[str, str] = json.loads((data / "up.json").read_text())
            return content
        time.sleep(0.1)
    raise AssertionError("not up after 120 s")


def children(pid: int) -> list[int]:
    """Ids of the living processes that a process started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(parent) == pid and state != "Z":
                found.append(int(entry.name))
    return found


def wait_until_gone(pids: Sequence[int]) -> None:
    """Fail unless all processes end soon."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not any(_is_alive(pid) for pid in pids):
            return
        time.sleep(0.1)
    raise AssertionError(f"still running: {[pid for pid in pids if _is_alive(pid)]}")


def _is_alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@linux_only
def test_from_a_folder_of_pictures_to_an_answer(tmp_path: Path) -> None:
    data, photos, sheet = tmp_path / "data", tmp_path / "photos", tmp_path / "sheet.png"
    photos.mkdir()
    for colour in CLOTH:
        picture = render({"kind": "hat", "colour": colour, "pattern": "plain"}, seed=1, size=(96, 128))
        (photos / f"{colour}.jpg").write_bytes(picture)
    with started(data, *MODEL) as process:
        up = wait_until_up(process, data)
        server = ("--server", up["search"])
        services = children(process.pid)
        assert len(services) == 4

        indexed = run("index", "shop", str(photos), "--data", str(data))
        assert indexed.returncode == 0, indexed.stderr
        assert "published with 12 of 12 items" in indexed.stdout

        with urlopen(f"http://{up['web']}/?c=shop&i0=red.jpg", timeout=30) as page:
            assert b'class="grid"' in page.read()
        with cir.Client(up["search"], timeout=30) as client:
            answer = client.search("shop", image=photos / "red.jpg", page_size=3)
            assert answer.results[0].id == "red.jpg"
            assert answer.results[0].score > 0.999
        found = run(
            *("search", "shop", "--item", "red.jpg", "--text", "in blue", "--then", "longer"),
            *("--json", "--sheet", str(sheet), *server),
        )
        assert found.returncode == 0, found.stderr
        kinds = [turn["kind"] for turn in json.loads(found.stdout)["explanation"]["turns"]]
        assert kinds == ["composed", "continued"]
        assert sheet.is_file()

        (photos / "broken.jpg").write_bytes((photos / "red.jpg").read_bytes()[:300])
        partly = run("index", "shop", str(photos), "--data", str(data), "--quiet")
        assert partly.returncode == 3
        assert "nothing has changed" in partly.stdout
        assert "12 unchanged, 1 rejected" in partly.stdout
        assert partly.stderr.count("\n") == 1
        assert "1 item was rejected (IMAGE_TRUNCATED 1)" in partly.stderr

        healthy = run("doctor", "--data", str(data), *server)
        assert healthy.returncode == 0, healthy.stdout

        second = run("up", "--data", str(data), *MODEL)
        assert second.returncode == 1
        assert second.stderr.count("\n") == 1
        assert f"already up (process {process.pid}, search at {up['search']})" in second.stderr

        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert "stopped" in output
        assert errors == ""
        wait_until_gone(services)
    assert not (data / "up.json").exists()
    assert (data / "logs" / "search.log").stat().st_size > 0
    gone = run("doctor", "--data", str(data), *server)
    assert gone.returncode == 1
    assert "checks failed: search" in gone.stderr


@pytest.mark.slow
@linux_only
def test_over_tls_and_a_service_that_ends_by_itself_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, authority = tmp_path / "data", Authority(tmp_path, "ca")
    own = authority.issue("own")
    for service in ("EMBEDDER", "COMBINER", "SEARCH"):
        for name, path in (("CERTIFICATE", own.certificate), ("KEY", own.key), ("CLIENT_CA", authority.file)):
            monkeypatch.setenv(f"CIR_{service}_TLS_{name}", str(path))
    for name, path in (("CA", authority.file), ("CERTIFICATE", own.certificate), ("KEY", own.key)):
        monkeypatch.setenv(f"CIR_SEARCH_UPSTREAM_{name}", str(path))
    monkeypatch.setenv("CIR_SEARCH_UPSTREAM_TLS", "true")
    with started(data, *MODEL, "--http-port", "0") as process:
        up = wait_until_up(process, data)
        with urlopen(f"http://{up['http']}/v1/info", timeout=30) as answer:
            assert set(json.load(answer)["dependencies"].values()) == {"ok"}
        with cir.Client(up["search"], timeout=30, tls=authority.client(own)) as client:
            assert set(client.info().dependencies.values()) == {"ok"}
        # The web demo reaches it too: an item that is not there is another answer than a service that is not.
        with pytest.raises(HTTPError, match="404") as page:
            urlopen(f"http://{up['web']}/item?c=shop&i=a", timeout=30)
        page.value.close()
        services = children(process.pid)
        combiner = next(
            pid for pid in services if b"combiner_service" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(combiner, signal.SIGKILL)
        deadline = time.monotonic() + 60
        with cir.Client(up["search"], timeout=30, tls=authority.client(own)) as client:
            while combiner in children(process.pid) or set(client.info().dependencies.values()) != {"ok"}:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        assert set(services) - set(children(process.pid)) == {combiner}
        services = children(process.pid)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "the combiner ended with exit code -9" in output
        assert "starting it again" in output
        wait_until_gone(services)


@linux_only
def test_no_service_outlives_a_killed_parent(tmp_path: Path) -> None:
    with started(tmp_path / "data", *MODEL) as process:
        deadline = time.monotonic() + 60
        while len(services := children(process.pid)) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
        wait_until_gone(services)


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_ends_with_its_reason(tmp_path: Path) -> None:
    data = tmp_path / "data"
    done = run("up", "--data", str(data), "--port", "0", "--model", "small", "--pretrained", "missing.pt")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "cir: the embedder cannot start: " in done.stderr
    assert "missing.pt" in done.stderr
    assert not (data / "up.json").exists()


@pytest.mark.slow
def test_the_demo_runs_its_queries_and_stops(tmp_path: Path) -> None:
    data = tmp_path / "demo"
    done = run("demo", "--once", "--data", str(data), "--port", "0", *MODEL, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "random" in done.stdout
    assert "published with 600 of 600 items" in done.stdout
    assert "composed, then continued" in done.stdout
    assert f"by {DEFAULT_COMBINER}; version" in done.stdout
    assert done.stdout.count("known target ") == 4
    assert sorted(path.name for path in (data / "sheets").iterdir()) == [
        "1.png",
        "2.png",
        "3.png",
        "4.png",
    ]
