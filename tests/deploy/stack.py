"""A stack of containers for tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
GARMENTS = 500


def why_no_engine() -> str:
    """Why no container can be started here; empty where they can."""
    if shutil.which("docker-compose") is None:
        return "docker-compose is not installed"
    done = subprocess.run(["docker", "info"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "no Docker engine answers"


_NO_ENGINE = why_no_engine()
IN_CONTAINERS = [
    pytest.mark.docker,
    pytest.mark.service,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(_NO_ENGINE), reason=_NO_ENGINE),
]
"""The marks of a module whose tests run containers."""


def why_no_image(name: str) -> str:
    """Why an image is not here and cannot be pulled either; empty where it is here now."""
    for command in (["image", "inspect", name], ["pull", "--quiet", name]):
        done = subprocess.run(["docker", *command], capture_output=True, text=True, check=False, timeout=300)
        if done.returncode == 0:
            return ""
    return f"{name} cannot be pulled: {done.stderr.strip()[:200]}"


def environment(pictures: Path, *, number: int = 0) -> dict[str, str]:
    """Variables of the compose files; stacks with different numbers share no port of the host."""
    has_base = subprocess.run(
        ["docker", "image", "inspect", "cir-base:bookworm"], capture_output=True, check=False
    )
    base = "cir-base:bookworm" if has_base.returncode == 0 else "python:3.11-slim-bookworm"
    return {
        "BASE_IMAGE": os.environ.get("BASE_IMAGE", base),
        "CIR_PICTURES": str(pictures),
        "CIR_CONNECTION_AGE_SECONDS": "3",
        # Narrower types round by the shape of a pass, which no answer of this process could repeat.
        "CIR_EMBEDDER_DTYPE": "float32",
        "CIR_SEARCH_PORTS": f"{50150 + 10 * number}",
        "CIR_DEMO_PORT": f"{18080 + number}",
        "CIR_HTTP_PORTS": f"{18180 + 10 * number}-{18189 + 10 * number}",
    }


def let_containers_read(folder: Path) -> None:
    """Open a temporary folder to the containers' user, which is another one than ours."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for parent in folder.parents:
        if parent != Path("/tmp") and parent.is_relative_to("/tmp"):
            parent.chmod(0o755)


def run(command: Sequence[str], *, timeout: float = 600, **options: Any) -> str:
    """Run a command to its end and give its output; what went wrong is in the assertion."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, **options
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@dataclass
class Stack:
    """Compose with overlays, under a project name of its own, so that nothing else on the host is touched."""

    project: str
    overlays: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        names = ["docker-compose.yml", *(f"docker-compose.{name}.yml" for name in self.overlays)]
        return [part for name in names for part in ("-f", name)]

    def compose(self, *arguments: str, timeout: float = 900) -> str:
        command = ["docker-compose", "-p", self.project, *self.files, *arguments]
        return run(command, timeout=timeout, cwd=DEPLOY, env=os.environ | self.environment)

    @contextmanager
    def running(self, *, service: str = "search") -> Iterator[None]:
        """Start it from nothing, wait until `service` is healthy, and leave nothing behind."""
        self.compose("down", "--volumes", "--timeout", "5")
        try:
            began = time.monotonic()
            self.compose("up", "-d")
            self.wait_healthy(service)
            print(f"{self.project}: {service} healthy {time.monotonic() - began:.0f} s after `up`")
            yield
        finally:
            self.compose("--profile", "index", "down", "--volumes", "--timeout", "5")

    def rolling(self, service: str) -> None:
        command = ["./rolling.sh", service, "-p", self.project, *self.files]
        run(command, cwd=DEPLOY, env=os.environ | self.environment)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service).split()

    def inspect(self, container: str) -> dict[str, Any]:
        described: dict[str, Any] = json.loads(run(["docker", "inspect", container]))[0]
        return described

    def wait_healthy(self, service: str, count: int = 1, timeout: float = 300) -> float:
        """Wait until so many containers of a service are healthy; returns the seconds it took."""
        began = time.monotonic()
        while time.monotonic() - began < timeout:
            states = [
                self.inspect(container)["State"].get("Health", {}).get("Status")
                for container in self.containers(service)
            ]
            if states.count("healthy") >= count:
                return time.monotonic() - began
            time.sleep(0.5)
        raise AssertionError(f"{service}: {states}\n{self.compose('logs', '--tail', '30', service)}")

    def ports(self, service: str, inner: int) -> list[str]:
        """The published ports of a service that listens at the port `inner`."""
        return [
            binding["HostPort"]
            for container in self.containers(service)
            for binding in self.inspect(container)["NetworkSettings"]["Ports"][f"{inner}/tcp"] or []
        ]

    def address(self) -> str:
        """Every published port of search, as one gRPC target."""
        return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in self.ports("search", 50050))

    def kill(self, service: str) -> None:
        """End a service's process as the kernel would, without Docker knowing of it."""
        pid = self.inspect(self.containers(service)[0])["State"]["Pid"]
        os.kill(pid, 9)

    def python_inside(self, *options: str) -> list[str]:
        """The command of a Python, with our client, that reaches the services by their names."""
        command = ["docker", "run", "--rm", *options, "--network", f"{self.project}_back"]
        return [*command, "--entrypoint", "python3", "cir-indexer:latest"]

    def calls(self, container: str) -> float:
        """Embedding calls that a replica has answered, as its metrics tell."""
        code = "import urllib.request as u; print(u.urlopen('http://localhost:9464/metrics').read().decode())"
        text = run(["docker", "exec", container, "python3", "-c", code])
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith("cir_calls_total") and "Embed" in line
        )


def published(url: str, *, key: str = "") -> bytes:
    """The body of a URL on this host."""
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        body: bytes = answer.read()
    return body
