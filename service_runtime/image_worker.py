"""A process that decodes images whose cost their headers do not bound, and that can be given up.

`ImageWorker` is the parent's side; `python -m service_runtime.image_worker FD` is the process. They talk over
a socket pair. The parent sends a pickled function once, then for each image its budget and its bytes; the
process answers pixels or a refusal, as plain bytes. What goes over the budget of memory is refused; what goes
over that of CPU time ends the process, and the next image starts another.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe

import numpy as np
import numpy.typing as npt

from cir.images.decode import ImageError

#: RGB pixels, uint8 (height, width, 3).
Pixels = npt.NDArray[np.uint8]

_START_SECONDS = 60.0
# Time that passes while an image takes its seconds of CPU time, before the busy machine is to blame.
_ELAPSED_FACTOR, _ELAPSED_SECONDS = 3.0, 5.0
_BUDGET = struct.Struct("!Qd")
_SHAPE = struct.Struct("!II")
_READY, _PIXELS, _REFUSED, _NO_MEMORY = b"r", b"p", b"e", b"m"
# Codecs report memory that they did not get as an error of their own.
_MEMORY_WORDS = ("memory", "alloc")
# One arena that gives large blocks back, and no threads that take address space.
_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1024 * 1024),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


# Windows has neither the signal nor the limits.
_CAN_BE_BOUNDED = hasattr(signal, "setitimer")


class GivenUp(Exception):
    """An image was given up; `cause` is "time", "memory", "crash" or "busy"."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class ImageWorker:
    """One process, started with its first image or by `start`. Used by one thread at a time."""

    def __init__(self, prepare: Callable[[bytes], Pixels]) -> None:
        self._prepare = pickle.dumps(prepare)
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._used = 0.0

    @property
    def is_running(self) -> bool:
        """True while there is a process."""
        return self._process is not None

    def start(self) -> None:
        """Start the process, unless it runs, and wait until it can take an image.

        Raises:
            OSError: it does not start.
        """
        self._used = time.monotonic()
        if self._process is not None and self._process.poll() is None:
            return
        if not _CAN_BE_BOUNDED:
            raise OSError("images of unknown cost are not decoded on this system, which cannot bound it")
        self.close()
        ours, theirs = Pipe()
        with theirs:
            path = os.pathsep.join(entry for entry in sys.path if entry)
            self._process = subprocess.Popen(  # noqa: S603  # this interpreter and a module of ours
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": path},
            )
        self._connection = ours
        try:
            ours.send_bytes(self._prepare)
            if not ours.poll(_START_SECONDS) or ours.recv_bytes() != _READY:
                raise OSError("the process that decodes images is not ready in time")
        except (EOFError, OSError) as error:
            self.close()
            raise OSError(f"the process that decodes images does not start: {error}") from error

    def run(self, content: bytes, *, memory_bytes: int, seconds: float) -> Pixels:
        """Return the pixels of an image file, within a budget of memory and CPU time.

        Raises:
            ImageError: the image is refused.
            GivenUp: it goes over its budget, or its decoder fails.
            OSError: the process does not start.
        """
        self.start()
        assert self._connection is not None  # noqa: S101  # set by start
        try:
            self._connection.send_bytes(_BUDGET.pack(memory_bytes, seconds))
            self._connection.send_bytes(content)
            if not self._connection.poll(_ELAPSED_FACTOR * seconds + _ELAPSED_SECONDS):
                self.close()
                raise GivenUp("busy")
            answer = self._connection.recv_bytes()
            self._used = time.monotonic()
        except (EOFError, OSError) as error:
            cause = self._cause_of_death()
            self.close()
            raise GivenUp(cause) from error
        kind, body = answer[:1], answer[1:]
        if kind == _PIXELS:
            height, width = _SHAPE.unpack_from(body)
            return np.frombuffer(body, np.uint8, offset=_SHAPE.size).reshape(height, width, 3)
        if kind == _REFUSED:
            reason, _, message = body.decode().partition(":")
            raise ImageError(message, reason=reason)
        raise GivenUp("memory")

    def _cause_of_death(self) -> str:
        assert self._process is not None  # noqa: S101  # set by start
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            return "crash"
        return {-signal.SIGPROF: "time", -signal.SIGKILL: "memory"}.get(code, "crash")

    def close_unless_used(self, seconds: float) -> None:
        """End the process if it had no image for that long."""
        if time.monotonic() - self._used >= seconds:
            self.close()

    def close(self) -> None:
        """End the process; the next image starts another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def main(descriptor: int) -> None:
    """Decode images until the other side hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    # Where the machine or the container has no memory left, this process goes, not the service.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    with Connection(descriptor) as connection:
        try:
            # Sent by the process that started this one.
            prepare: Callable[[bytes], Pixels] = pickle.loads(connection.recv_bytes())  # noqa: S301
            _take_one_thread()
            connection.send_bytes(_READY)
            while True:
                memory_bytes, seconds = _BUDGET.unpack(connection.recv_bytes())
                content = connection.recv_bytes()
                connection.send_bytes(_answer(prepare, content, memory_bytes, seconds))
        except (EOFError, OSError):
            return


def _answer(prepare: Callable[[bytes], Pixels], content: bytes, memory_bytes: int, seconds: float) -> bytes:
    import resource  # only here: Windows has none

    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = _address_space() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit if most < 0 else min(limit, most), most))
    # Ends the process, whatever code it is in.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        pixels = prepare(content)
        return _PIXELS + _SHAPE.pack(*pixels.shape[:2]) + pixels.tobytes()
    except ImageError as error:
        if any(word in error.message.lower() for word in _MEMORY_WORDS):
            return _NO_MEMORY
        return _REFUSED + f"{error.reason}:{error.message}".encode(errors="replace")
    except MemoryError:
        return _NO_MEMORY
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _address_space() -> int:
    import resource

    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _take_one_thread() -> None:
    """Keep codecs from starting threads, whose stacks would count as memory of the image."""
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    if "pillow_heif" in sys.modules:
        sys.modules["pillow_heif"].options.DECODE_THREADS = 1


if __name__ == "__main__":
    main(int(sys.argv[1]))
