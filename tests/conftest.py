"""Marks say what a test needs: `pytest --quick` runs those that need nothing, `--no-quick` the others.

A test without the mark `service` must not start a process or open a server, a channel or a socket. A test
without `torch` must not be the first to import torch. Such a test fails, and the message names the place.
The quick run does not even import marked files, so that it finds every import of torch.
"""

from __future__ import annotations

import ast
import multiprocessing.process
import os
import sys
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, settings

# Times of a loaded machine prove nothing: how long inputs take to draw or an example to run fails no test.
# Where CI is set, a commit has the same examples in each run; elsewhere new ones are drawn every time.
settings.register_profile(
    "untimed",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("untimed")

MARKS = frozenset({"service", "torch", "browser", "ray", "docker", "clients", "slow"})
TESTS = Path(__file__).parent
_EVENTS = frozenset(
    {
        "subprocess.Popen",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.system",
        "socket.bind",
        "socket.connect",
    }
)


class Needs:
    """What was seen while something ran: a test, the set-up of a fixture or the collecting of a file."""

    def __init__(self) -> None:
        self._running: list[object] = []
        self._seen: dict[object, dict[str, str]] = {}

    def run(self, owner: object) -> Generator[None, Any, Any]:
        """Wrap a hook: what is seen until it ends is `owner`'s."""
        self._running.append(owner)
        try:
            return (yield)
        finally:
            self._running.pop()

    def see(self, need: str, what: str) -> None:
        """Keep where the running owner first needed `need`. Importing torch starts processes of its own."""
        if not self._running or need in self._seen.setdefault(self._running[-1], {}):
            return
        frames = traceback.extract_stack()
        if need == "service" and any("/site-packages/torch/" in frame.filename for frame in frames):
            return
        ours = [
            f for f in frames if f.filename.startswith(f"{TESTS.parent}/") and "/.venv/" not in f.filename
        ]
        places = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(ours[-4:-1]))
        self._seen[self._running[-1]][need] = f"{what} ({places})"

    def of(self, *owners: object) -> dict[str, str]:
        """Return what any of `owners` needed, with the place."""
        return {need: what for owner in owners for need, what in self._seen.get(owner, {}).items()}


needs = Needs()


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _EVENTS:
        needs.see("service", event)
    elif event == "import" and arguments[0] == "torch":
        needs.see("torch", "import torch")


def _seen(call: Callable[..., Any], what: str) -> Callable[..., Any]:
    def seen(*arguments: Any, **options: Any) -> Any:
        needs.see("service", what)
        return call(*arguments, **options)

    return seen


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --quick and its counterpart."""
    add = parser.getgroup("marks").addoption
    add("--quick", dest="quick", action="store_true", default=None, help="run the tests that need nothing")
    add("--no-quick", dest="quick", action="store_false", default=None, help="run those that need something")


def pytest_configure(config: pytest.Config) -> None:
    """Watch this process from here on. gRPC's sockets are not Python's, so its doors are watched.

    Proxies of the environment are not for what tests open themselves.
    """
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    sys.addaudithook(_audit)
    for module in (grpc, grpc.aio):
        for name in ("server", "insecure_channel", "secure_channel"):
            setattr(module, name, _seen(getattr(module, name), f"{module.__name__}.{name}"))
    process: Any = multiprocessing.process.BaseProcess
    process.start = _seen(process.start, "multiprocessing")


def marks_of_file(path: Path) -> set[str]:
    """Return the marks that `pytestmark` of a test file names, read without importing it."""
    for line in ast.parse(path.read_bytes()).body:
        if isinstance(line, ast.Assign) and any(getattr(to, "id", "") == "pytestmark" for to in line.targets):
            return {part.attr for part in ast.walk(line.value) if isinstance(part, ast.Attribute)} & MARKS
    return set()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave marked files out of a quick run, unread."""
    quick = config.getoption("quick") and collection_path.name.startswith("test_")
    return True if quick and collection_path.is_file() and marks_of_file(collection_path) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave marked tests out of a quick run, and the others out of its counterpart."""
    quick = config.getoption("quick")
    if quick is not None:
        left_out = [item for item in items if bool(_marks(item)) == quick]
        items[:] = [item for item in items if bool(_marks(item)) != quick]
        config.hook.pytest_deselected(items=left_out)


def _marks(item: pytest.Item) -> set[str]:
    return {mark.name for mark in item.iter_markers()} & MARKS


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """Note what importing a test file needs."""
    return (yield from needs.run(collector.path))


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
    """Note what setting a fixture up needs: so does every test that uses it."""
    return (yield from needs.run(fixturedef))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Note what a test needs."""
    return (yield from needs.run(item.nodeid))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test that needed what it is not marked for."""
    result = yield
    fixtures = [one for group in item._fixtureinfo.name2fixturedefs.values() for one in group]  # type: ignore[attr-defined]
    found = needs.of(item.nodeid, *fixtures)
    torch = needs.of(item.path).get("torch")
    if torch:
        found["torch"] = torch
    missing = found.keys() - _marks(item)
    if missing:
        lines = [f"needs the mark {name}: {found[name]}" for name in sorted(missing)]
        pytest.fail("\n".join(lines), pytrace=False)
    return result
