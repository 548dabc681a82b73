"""One service as a child process."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cir.local.plan import ServiceSpec

_PR_SET_PDEATHSIG = 1
_TAIL_BYTES = 4096


class Child:
    """A running `python -m service` whose output goes to a log file.

    It has a session of its own: Ctrl-C reaches this process alone, which then stops the children in order.
    """

    def __init__(self, spec: ServiceSpec, logs: Path) -> None:
        self.spec = spec
        self.log = logs / f"{spec.name}.log"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                [sys.executable, "-m", spec.module],
                env=os.environ | spec.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_stop_with_parent(),
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to finish its calls and stop."""
        if self.exit_code is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        if self.exit_code is None:
            self._process.kill()

    def wait(self, seconds: float) -> bool:
        """Wait for its end; whether it came."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_lines(self, count: int) -> list[str]:
        """The last lines that it wrote, without empty ones."""
        text = self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
        return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]


def _stop_with_parent() -> Callable[[], None] | None:
    """What has Linux send the child SIGTERM when this process dies, even by SIGKILL; None elsewhere."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    parent = os.getpid()

    def in_child() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)  # it died before the line above

    return in_child
