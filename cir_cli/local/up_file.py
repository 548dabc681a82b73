"""DIR/up.json: what runs on a data directory, for the other commands; and the lock that keeps it to one."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cir_cli.errors import Failure
from service_runtime.files import check_seal, seal, write_text


@dataclass(frozen=True, slots=True)
class UpFile:
    """Addresses ("host:port"), the store's URL, the model, and the id of the process that owns them."""

    pid: int
    search: str
    embedder: str
    combiner: str
    store: str
    model: str
    pretrained: str
    web: str = ""
    http: str = ""


@contextmanager
def claim(data: Path) -> Iterator[None]:
    """Own a data directory until the block ends; made when missing.

    The lock belongs to the process, so a killed owner leaves nothing that has to be cleaned up.

    Raises:
        Failure: another process owns it.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / "up.lock").open("a")
    except OSError as error:
        raise Failure(f"data directory {data} cannot be used: {error.strerror or error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            running = read(data)
            where = f" (process {running.pid}, search at {running.search})" if running else ""
            raise Failure(
                f"the services of {data} are already up{where}; use them, stop them with Ctrl-C there, "
                "or give another directory with --data"
            ) from error
        try:
            yield
        finally:
            _path(data).unlink(missing_ok=True)


def write(data: Path, up: UpFile) -> None:
    """Write DIR/up.json, whole or not at all. The directory must be claimed."""
    write_text(_path(data), json.dumps(seal(asdict(up)), indent=2) + "\n", durable=False)


def read(data: Path) -> UpFile | None:
    """Read what runs on a data directory; None when nothing does."""
    try:
        document = json.loads(_path(data).read_text())
        up = UpFile(**check_seal(document, unsealed=[member.name for member in fields(UpFile)]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Failure(f"{_path(data)} cannot be read: {error}; delete it when nothing is up") from error
    try:
        os.kill(up.pid, 0)
    except ProcessLookupError:
        return None  # left behind by a process that was killed
    except PermissionError:
        pass  # runs, under another user
    return up


def _path(data: Path) -> Path:
    return data / "up.json"
