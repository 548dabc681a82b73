"""The services of one data directory, up for as long as a block lasts."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from cir.local import up_file
from cir.local.plan import ServiceSpec, UpOptions, plan
from cir.local.ports import check_free
from cir.local.services import Services

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """A signal asked to stop before the services were up."""


@contextmanager
def running(
    options: UpOptions, *, start_timeout: float, on_serving: Callable[[ServiceSpec], None]
) -> Iterator[Services]:
    """Start the services, yield when all take calls, and stop them when the block ends.

    SIGINT, SIGTERM and SIGHUP ask to stop (`Services.watch` returns), a second one ends everything at
    once. Raises `Failure`, and `Stopped` when asked to stop before all were up.
    """
    asked = threading.Event()
    specs = plan(options)
    services = Services(specs, options.data / "logs", asked)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            services.kill()
        asked.set()

    with up_file.claim(options.data), _signals(on_signal):
        check_free([spec.address for spec in specs])
        try:
            services.start()
            if not services.wait_until_serving(timeout=start_timeout, on_serving=on_serving):
                raise Stopped
            embedder, combiner, search, *web = specs
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
                    web=web[0].address if web else "",
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
