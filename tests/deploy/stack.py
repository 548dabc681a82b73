"""A stack of containers for tests, and a steady load on it."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cir
from cir.errors import CirError

DEPLOY = Path(__file__).parents[2] / "deploy"


def run(command: Sequence[str], *, timeout: float = 600, **options: Any) -> str:
    """Run a command to its end and give its output; what went wrong is in the assertion."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)
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

    def address(self) -> str:
        """Every published port of search, as one gRPC target."""
        ports = [
            binding["HostPort"]
            for container in self.containers("search")
            for binding in self.inspect(container)["NetworkSettings"]["Ports"]["50050/tcp"] or []
        ]
        return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)

    def kill(self, service: str) -> None:
        """End a service's process as the kernel would, without Docker knowing of it."""
        pid = self.inspect(self.containers(service)[0])["State"]["Pid"]
        os.kill(pid, 9)

    def calls(self, container: str) -> float:
        """Embedding calls that a replica has answered, as its metrics tell."""
        code = "import urllib.request as u; print(u.urlopen('http://localhost:9464/metrics').read().decode())"
        text = run(["docker", "exec", container, "python3", "-c", code])
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith("cir_calls_total") and "Embed" in line
        )


class Load:
    """Threads that search without pause while the block lasts, and keep what they were answered."""

    def __init__(self, address: str, catalog: str, items: Sequence[str], *, threads: int = 2) -> None:
        self._address, self._catalog, self._items = address, catalog, items
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.errors: Counter[str] = Counter()
        self.messages: list[str] = []
        self.versions: list[str] = []
        self.answered = 0
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def more(self, count: int, timeout: float = 120) -> None:
        """Wait for so many further answers."""
        target, deadline = self.answered + count, time.monotonic() + timeout
        while self.answered < target:
            assert time.monotonic() < deadline, (self.answered, self.errors, self.messages[-3:])
            time.sleep(0.05)

    def _run(self, number: int) -> None:
        with cir.Client(self._address, timeout=20) as client:
            count = 0
            while not self._stop.is_set():
                count += 1
                item = self._items[(number * 7919 + count) % len(self._items)]
                # A text that nobody has asked for, so that each search needs the embedder.
                text = f"in red, number {number} {count}"
                try:
                    answer = client.search(self._catalog, item=item, text=text, limit=5)
                except CirError as error:
                    with self._lock:
                        self.errors[error.code.name] += 1
                        self.messages.append(str(error))
                    continue
                with self._lock:
                    self.answered += 1
                    self.versions.append(answer.explanation.version)


def published(url: str) -> bytes:
    """The body of a URL on this host."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        body: bytes = answer.read()
    return body
