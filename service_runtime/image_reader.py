"""Images read in bounded time and memory: here where headers bound the cost, else in a worker process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, LifoQueue
from typing import ClassVar, Protocol

from cir.common.v1 import errors_pb2 as pb
from cir.images.decode import Decoder, ImageError
from cir.images.formats import FORMATS
from cir.images.header import MAX_SCANS, Header, read_header
from service_runtime.errors import ServiceError
from service_runtime.image_worker import GivenUp, ImageWorker, Pixels

MIB = 1024 * 1024
# What an image may cost at most to be decoded in the service's own threads.
_CHEAP_BYTES = 128 * MIB
_CHEAP_SECONDS = 0.4
# Memory of all images together that are decoded in these threads.
_SHARED_BYTES = 192 * MIB
_SHARED_BYTES_PER_THREAD = 32 * MIB
# What a worker needs beside the figures of a header: they are not exact.
_SPARE_BYTES = 32 * MIB
_BUSY_SECONDS = 1.0
# Seconds without an image after which a worker is ended: it holds some 30 MB.
_IDLE_SECONDS = 30.0


class Prepare(Protocol):
    """Work on an image file. Sent to worker processes, so it has to be picklable."""

    @property
    def decoder(self) -> Decoder:
        """The decoder that it uses."""

    def memory_bytes(self, width: int, height: int) -> int:
        """Return the memory that it takes for a decoded image of that size."""

    def __call__(self, content: bytes) -> Pixels:
        """Return the pixels to use, uint8 (height, width, 3)."""


@dataclass(frozen=True, slots=True)
class DecodeBudget:
    """Budget of one image: `seconds` of CPU time and `memory_bytes`; `workers` processes at a time."""

    SECONDS: ClassVar[float] = 5.0
    MEMORY_MIB: ClassVar[int] = 208

    seconds: float = SECONDS
    memory_bytes: int = MEMORY_MIB * MIB
    workers: int = 1


class ImageBusyError(Exception):
    """There is no memory, process or time for the image just now: the machine's doing, not the image's."""


def refusal_of(error: ImageError | ImageBusyError) -> ServiceError:
    """Return the error that a service answers for an image that was not read."""
    if isinstance(error, ImageError):
        return ServiceError(pb.ErrorReason.Value(error.reason), error.message)
    return ServiceError(pb.OVERLOADED, f"{error}; try again later", retry_after=_BUSY_SECONDS)


class ImageReader:
    """Reads image files, in the calling thread or in a worker process that can be given up.

    `threads` is the number of threads that read at a time. `on_given_up` is called with the cause when an
    image is given up: "time", "memory", "crash" or "busy". Workers that had no image for `idle_seconds` are
    ended. Safe with threads.
    """

    def __init__(
        self,
        prepare: Prepare,
        budget: DecodeBudget = DecodeBudget(),
        *,
        threads: int = 1,
        on_given_up: Callable[[str], None] = lambda cause: None,
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        self._prepare = prepare
        self._budget = budget
        self._idle_seconds = idle_seconds
        self._on_given_up = on_given_up
        self._here = _Memory(max(_SHARED_BYTES, threads * _SHARED_BYTES_PER_THREAD))
        self._apart = _Memory(budget.memory_bytes)
        self._workers = [ImageWorker(prepare) for _ in range(budget.workers)]
        self._idle: LifoQueue[ImageWorker] = LifoQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._retiring = threading.RLock()
        self._timer: threading.Timer | None = None
        self._closed = False

    def start(self) -> None:
        """Start one worker: what keeps it from starting is known before the first image needs it.

        Raises:
            OSError: it does not start.
        """
        self._workers[-1].start()
        self._retire_later()

    def close(self) -> None:
        """End the worker processes; no image may be read any more."""
        with self._retiring:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
        for worker in self._workers:
            worker.close()

    def check_bytes(self, size: int) -> None:
        """Check the length of an encoded image.

        Raises:
            ImageError: IMAGE_EMPTY, IMAGE_TOO_MANY_BYTES.
        """
        self._prepare.decoder.check_bytes(size)

    def check(self, content: bytes) -> Header:
        """Return the headers of an image file; refuse it where they say that it cannot be read.

        Raises:
            ImageError: IMAGE_EMPTY, IMAGE_TOO_MANY_BYTES, IMAGE_TOO_MANY_PIXELS, IMAGE_TOO_COSTLY.
        """
        decoder = self._prepare.decoder
        decoder.check_bytes(len(content))
        header = read_header(content, draft_size=decoder.draft_size)
        decoder.check_pixels(header.width, header.height)
        if header.width and header.height and decoder.check_size is not None:
            decoder.check_size(header.width, header.height)
        if header.scans > MAX_SCANS:
            raise ImageError(
                f"the JPEG has {header.scans} scans, the limit is {MAX_SCANS}; save it anew",
                reason="IMAGE_TOO_COSTLY",
            )
        if header.bounded and self._memory(header) > self._budget.memory_bytes:
            raise self._too_costly("memory")
        return header

    def is_cheap(self, header: Header) -> bool:
        """Return True when `read` decodes or refuses the image in the calling thread, and soon."""
        if header.format not in FORMATS:
            return True
        return header.bounded and self._memory(header) <= _CHEAP_BYTES and header.seconds <= _CHEAP_SECONDS

    def read(self, content: bytes, header: Header | None = None) -> Pixels:
        """Return the pixels of an image file; `header` is what `check` returned for it, if it was called.

        May wait for other images that are being read.

        Raises:
            ImageError: as `check` and `Decoder.decode` raise it, and IMAGE_TOO_COSTLY for an image that goes
                over its budget.
            ImageBusyError: trying again later may help.
        """
        if header is None:
            header = self.check(content)
        memory = self._memory(header)
        try:
            if self.is_cheap(header):
                with self._here.hold(memory):
                    return self._prepare(content)
            wanted = memory if header.bounded else 2 * memory + _SPARE_BYTES
            # Where the header does not tell, all there is.
            wanted = min(wanted, self._budget.memory_bytes) if memory else self._budget.memory_bytes
            with self._apart.hold(wanted):
                return self._read_apart(content, wanted)
        except MemoryError as error:
            raise ImageBusyError("there is no memory to decode the image") from error

    def _read_apart(self, content: bytes, memory: int) -> Pixels:
        worker = self._idle.get()
        try:
            return worker.run(content, memory_bytes=memory + _SPARE_BYTES, seconds=self._budget.seconds)
        except GivenUp as error:
            self._on_given_up(error.cause)
            if error.cause == "busy":
                raise ImageBusyError("the machine is too busy to decode the image") from error
            raise self._too_costly(error.cause) from error
        except OSError as error:
            raise ImageBusyError(str(error)) from error
        finally:
            self._idle.put(worker)
            self._retire_later()

    def _retire_later(self) -> None:
        with self._retiring:
            if self._timer is None and not self._closed:
                self._timer = threading.Timer(self._idle_seconds, self._retire)
                self._timer.daemon = True
                self._timer.start()

    def _retire(self) -> None:
        """End the processes of idle workers; those that read are not in the queue."""
        with self._retiring:
            self._timer = None
            if self._closed:
                return
            idle: list[ImageWorker] = []
            with suppress(Empty):
                while True:
                    idle.append(self._idle.get_nowait())
            # The last that was put back is the first to be taken.
            for worker in reversed(idle):
                worker.close_unless_used(self._idle_seconds)
                self._idle.put(worker)
            if any(worker.is_running for worker in self._workers):
                self._retire_later()

    def _memory(self, header: Header) -> int:
        # What a decoder takes beside the image is free again when the image is prepared.
        prepared = header.image_bytes + self._prepare.memory_bytes(header.width, header.height)
        return max(header.memory_bytes, prepared)

    def _too_costly(self, cause: str) -> ImageError:
        what = {
            "time": f"takes more than {self._budget.seconds:g} s to decode",
            "memory": f"takes more than {self._budget.memory_bytes // MIB} MiB to decode",
        }.get(cause, "makes its decoder fail")
        return ImageError(
            f"the image {what}; send a smaller one, best as JPEG or PNG", reason="IMAGE_TOO_COSTLY"
        )


class _Memory:
    """Memory that images hold together, given out in the order of arrival; one alone may exceed the limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Wait until there is room for `size` bytes, and hold them while the block lasts."""
        with self._turn, self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + size <= self._limit)
            self._held += size
        try:
            yield
        finally:
            with self._changed:
                self._held -= size
                self._changed.notify()
