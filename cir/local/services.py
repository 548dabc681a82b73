"""Starting, watching and stopping the services of one machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cir.failure import Failure
from cir.local.child import Child
from cir.local.plan import ServiceSpec
from cir.local.readiness import own_tls, takes_calls

_POLL_SECONDS = 0.2
_STOP_SECONDS = 15.0
_LINES_SHOWN = 5


class Services:
    """The processes of one plan. `stop_asked` ends every wait early; setting it is safe from a signal."""

    def __init__(self, specs: Sequence[ServiceSpec], logs: Path, stop_asked: threading.Event) -> None:
        self._specs = specs
        self._logs = logs
        self._stop_asked = stop_asked
        self.children: list[Child] = []

    def start(self) -> None:
        """Start every process."""
        self._logs.mkdir(parents=True, exist_ok=True)
        for spec in self._specs:
            self.children.append(Child(spec, self._logs))

    def wait_until_serving(self, *, timeout: float, on_serving: Callable[[ServiceSpec], None]) -> bool:
        """Wait until all take calls; False when a stop was asked for meanwhile.

        Raises `Failure` when a process ends, cannot be reached, or the time is over.
        """
        deadline = time.monotonic() + timeout
        waiting = list(self.children)
        tls = {spec.name: own_tls(spec.module) for spec in self._specs if spec.health_name}
        while waiting:
            self._check_alive()
            for child in list(waiting):
                if takes_calls(child.spec, tls.get(child.spec.name)):
                    on_serving(child.spec)
                    waiting.remove(child)
            if waiting and time.monotonic() > deadline:
                names = ", ".join(child.spec.name for child in waiting)
                raise Failure(
                    f"not ready after {timeout:g} s: {names}; see the logs in {self._logs}, or give more "
                    "time with --start-timeout"
                )
            if self._stop_asked.wait(_POLL_SECONDS if waiting else 0):
                return False
        return True

    def watch(self) -> None:
        """Return when a stop is asked for. Raises `Failure` when a process ends by itself."""
        while not self._stop_asked.wait(_POLL_SECONDS):
            self._check_alive()

    def stop(self) -> None:
        """Stop all, those that depend on others first: ask, wait, end what is left."""
        for child in reversed(self.children):
            child.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for child in reversed(self.children):
            if not child.wait(max(0.0, deadline - time.monotonic())):
                child.kill()
                child.wait(_STOP_SECONDS)

    def kill(self) -> None:
        """End all at once."""
        for child in self.children:
            child.kill()

    def _check_alive(self) -> None:
        for child in self.children:
            if child.exit_code is not None:
                lines = child.last_lines(_LINES_SHOWN)
                raise Failure(_told_why(child, lines))


def _told_why(child: Child, lines: Sequence[str]) -> str:
    """One line for a service that ended: its own reason when it gave one, else its last words."""
    name = child.spec.name
    prefix = f"{child.spec.module}: "
    reason = next((line.removeprefix(prefix) for line in reversed(lines) if line.startswith(prefix)), "")
    if reason:
        return f"the {name} cannot start: {reason}"
    said = " | ".join(lines) or "nothing"
    return f"the {name} ended with exit code {child.exit_code}; its last lines ({child.log}): {said}"
