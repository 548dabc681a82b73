"""Service processes of one machine: started together, watched, stopped in order."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from cir_cli.errors import Failure
from cir_cli.local import up_file
from cir_cli.local.plan import ServiceSpec, UpOptions, listeners, plan
from cir_cli.local.readiness import check_free, own_tls, takes_calls

_PR_SET_PDEATHSIG = 1
_TAIL_BYTES = 4096


class Child:
    """A running `python -m service` whose output goes to a log file.

    It has a session of its own: Ctrl-C reaches this process alone, which then stops the children in order.
    """

    def __init__(self, spec: ServiceSpec, logs: Path, *, again: bool = False) -> None:
        self.spec = spec
        self.log = logs / f"{spec.name}.log"
        with self.log.open("ab" if again else "wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                [sys.executable, "-m", spec.module],
                env=spec.defaults | os.environ | spec.environment,
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
    """Hook that has Linux send the child SIGTERM when this process dies, even by SIGKILL, or None."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    parent = os.getpid()

    def in_child() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)  # it died before the line above

    return in_child


_POLL_SECONDS = 0.2
_STOP_SECONDS = 15.0
_LINES_SHOWN = 5
# A service that ends by itself is started again, but not for ever: so often within so many seconds.
_MOST_RESTARTS = 5
_RESTART_SECONDS = 300.0


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

        Raises:
            Failure: a process ends, cannot be reached, or the time is over.
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

    def watch(self, on_restart: Callable[[str], None] = print) -> None:
        """Start again what ends by itself, with a word to `on_restart`; return when a stop is asked for.

        Raises:
            Failure: a process ended more than 5 times within 5 minutes.
        """
        ended: dict[str, list[float]] = {}
        while not self._stop_asked.wait(_POLL_SECONDS):
            for place, child in enumerate(self.children):
                if child.exit_code is None:
                    continue
                now = time.monotonic()
                times = [one for one in ended.get(child.spec.name, []) if one > now - _RESTART_SECONDS]
                why = _told_why(child, child.last_lines(_LINES_SHOWN))
                if len(times) == _MOST_RESTARTS:
                    raise Failure(f"{why}; it was started again {_MOST_RESTARTS} times in vain")
                ended[child.spec.name] = [*times, now]
                on_restart(f"{why}; starting it again")
                self.children[place] = Child(child.spec, self._logs, again=True)

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


# Windows has no SIGHUP.
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(Exception):
    """A signal asked to stop before the services were up."""


@contextmanager
def running(
    options: UpOptions,
    *,
    start_timeout: float,
    on_serving: Callable[[ServiceSpec], None],
    prepare: Callable[[], None] = lambda: None,
) -> Iterator[Services]:
    """Start the services, yield when all take calls, and stop them when the block ends.

    `prepare` is called before the start, once data directory and ports are known to be free.

    SIGINT, SIGTERM and SIGHUP ask to stop (`Services.watch` returns), a second one ends everything at
    once.

    Raises:
        Failure: a process did not come up.
        Stopped: asked to stop before all were up.
    """
    asked = threading.Event()
    specs = plan(options)
    services = Services(specs, options.data / "logs", asked)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            services.kill()
        asked.set()

    with ExitStack() as stack:
        stack.enter_context(up_file.claim(options.data))
        check_free(listeners(options))
        prepare()
        stack.enter_context(_signals(on_signal))
        try:
            services.start()
            if not services.wait_until_serving(timeout=start_timeout, on_serving=on_serving):
                raise Stopped
            embedder, combiner, search, *others = specs
            over_http = {spec.name: spec.address for spec in others}
            up_file.write(
                options.data,
                up_file.UpFile(
                    pid=os.getpid(),
                    search=search.address,
                    embedder=embedder.address,
                    combiner=combiner.address,
                    store=options.store,
                    model=options.model,
                    pretrained=options.pretrained,
                    web=over_http.get("web", ""),
                    http=over_http.get("http", ""),
                ),
            )
            yield services
        finally:
            services.stop()


@contextmanager
def _signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
