"""DIR/up.json: what runs on a data directory, for the other commands; and the lock that keeps it to one."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cir.address import Address, UnixSocket, parse_target
from cir_cli.errors import Failure
from service_runtime.files import check_seal, seal, write_text
from service_runtime.locks import take_within

# Readers try the lock for a moment; that is not to be taken for an owner.
_CLAIM_SECONDS = 0.2


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
        lock = _lock(data).open("a")
    except OSError as error:
        raise Failure(f"data directory {data} cannot be used: {error.strerror or error}") from error
    with lock:
        if not take_within(lock.fileno(), _CLAIM_SECONDS):
            running = read(data)
            where = f" (process {running.pid}, search at {running.search})" if running else ""
            raise Failure(
                f"the services of {data} are already up{where}; use them, stop them with Ctrl-C there, "
                "or give another directory with --data"
            )
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
    # Else it was left behind by a process that was killed.
    return up if _is_claimed(data) else None


def must_read(data: Path, *, otherwise: str) -> UpFile:
    """Read what must run on a data directory; `otherwise` names the options of a command that do without.

    Raises:
        Failure: nothing runs there.
    """
    up = read(data)
    if up is None:
        folder = os.path.abspath(data)
        raise Failure(
            f"nothing is up on {folder}; where services run on another folder, name it with --data FOLDER "
            f"(or CIR_DATA), start some with: cir up --data {shlex.quote(folder)}, or give {otherwise}"
        )
    return up


def search_here(data: Path) -> str | None:
    """Return where the search service that is up on a data directory answers; None when none is up.

    None, too, for an address beyond this machine: whoever made the folder does not choose where keys go.
    """
    up = read(data)
    if up is None:
        return None
    place = parse_target(up.search)
    return up.search if isinstance(place, (Address, UnixSocket)) and place.is_loopback else None


def _is_claimed(data: Path) -> bool:
    try:
        with _lock(data).open("rb") as lock:
            return not take_within(lock.fileno(), 0.0)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # of another user, who keeps it closed


def _lock(data: Path) -> Path:
    return data / "up.lock"


def _path(data: Path) -> Path:
    return data / "up.json"
